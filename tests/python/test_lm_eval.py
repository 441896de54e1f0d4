# SPDX-License-Identifier: Apache-2.0
"""lm-evaluation-harness, as it comes from the package index, on made-up tasks of its own."""

import json
import math
import os
import subprocess
import sys

import pytest

pytest.importorskip("lm_eval", reason="lm_eval is not installed")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

import foretoken
import foretoken.lm_eval

ARGS = {"threads": 1, "measure": False}

# What a story says next, among words in no order: the model has to tell the text from noise.
CHOICES = [
    ("Once upon a time there was a", [" king", " of of the", " and was were"]),
    ("The man was standing in the middle of the", [" street", " were had", " upon that that"]),
    ("He had a wife and three", [" was the is", " children", " he of"]),
    ("She opened the door and went into the", [" had of", " the had", " house"]),
    ("In the morning the sun", [" rose", " of and the", " a the which"]),
    ("The old woman said to the", [" upon and", " boy", " are were"]),
]

CHOICE_TASK = """
task: made_up_choice
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/choice.json}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
target_delimiter: ""
metric_list: [{metric: acc}, {metric: acc_norm}]
"""

ROLLING_TASK = """
task: made_up_text
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/choice.json}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}]
"""

ANSWER_TASK = """
task: made_up_answer
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/choice.json}}
test_split: test
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{said}}"
target_delimiter: ""
generation_kwargs: {until: ["\\n"], max_gen_toks: 12, do_sample: false}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture
def tasks(engine, tmp_path, monkeypatch):
    """A folder of tasks; nothing is looked for on the network."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    for name, text in (("choice", CHOICE_TASK), ("text", ROLLING_TASK), ("answer", ANSWER_TASK)):
        (tmp_path / f"{name}.yaml").write_text(text.replace("FOLDER", str(tmp_path)))
    with open(tmp_path / "choice.json", "w") as file:
        for text, choices in CHOICES:
            right = next(i for i, choice in enumerate(choices) if len(choice.split()) == 1)
            said = engine.generate(text, max_tokens=12, stop=["\n"]).text
            doc = {"text": text, "choices": choices, "label": right, "said": said}
            file.write(json.dumps(doc) + "\n")
    return tmp_path


@pytest.fixture(scope="module")
def lm():
    lm = get_model("foretoken").create_from_arg_string("threads=1,measure=False,parallel=4")
    yield lm
    lm.engine.close()


def instances(kind, arguments):
    return [Instance(kind, {}, args, i) for i, args in enumerate(arguments)]


def test_tasks(engine, tasks):
    found = simple_evaluate(
        model="foretoken",
        model_args=ARGS,
        tasks=["made_up_choice", "made_up_text", "made_up_answer"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )["results"]
    assert found["made_up_choice"]["acc,none"] > 0.6
    assert found["made_up_answer"]["exact_match,none"] == 1
    total = sum(engine.score(text) for text, _ in CHOICES)
    n_bytes = sum(len(text) for text, _ in CHOICES)
    assert found["made_up_text"]["byte_perplexity,none"] == pytest.approx(
        math.exp(-total / n_bytes)
    )


def test_likelihoods_are_scores(lm):
    asked = [(text, choice) for text, choices in CHOICES for choice in choices] + [("", "The king")]
    answers = lm.loglikelihood(instances("loglikelihood", asked), disable_tqdm=True)
    score, tokenize = lm.engine.score, lm.model.tokenize
    for (context, end), (found, greedy) in zip(asked, answers):
        assert found == pytest.approx(score(context + end) - score(context), rel=1e-5)
        wanted = tokenize(context + end)[len(tokenize(context)) :]
        said = lm.engine.generate(context, max_tokens=len(wanted), ignore_end=True).tokens
        assert greedy == (said == wanted)
    assert {greedy for _, greedy in answers} == {True, False}
    (rolled,) = lm.loglikelihood_rolling(instances("loglikelihood_rolling", [("The king",)]), True)
    assert rolled == score("The king") == pytest.approx(answers[-1][0])


def test_texts_longer_than_the_context():
    lm = foretoken.lm_eval.ForetokenLM(max_length=64, **ARGS)
    text = " ".join(text for text, _ in CHOICES) * 6
    tokens = lm.model.tokenize(text, bos=False)
    (rolled,) = lm.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,)]), True)
    assert len(tokens) > 3 * 64
    # by hand, in windows of 63 predicted tokens, the last one with as much before it as fits
    score = lm.engine.score
    last = tokens[len(tokens) - (len(tokens) - 63) % 63 :] if (len(tokens) - 63) % 63 else []
    wanted = score([1, *tokens[:63]])
    for at in range(63, len(tokens) - len(last), 63):
        wanted += score(tokens[at - 1 : at + 63])
    if last:
        whole = tokens[-64:]
        wanted += score(whole) - score(whole[: 64 - len(last)])
    assert rolled == pytest.approx(wanted, rel=1e-4)
    (cut,) = lm.loglikelihood(instances("loglikelihood", [(text, " king")]), True)
    king = lm.model.tokenize(text + " king")[len(tokens) + 1 :]
    kept = tokens[-(64 - len(king)) :]
    assert cut[0] == pytest.approx(score(kept + king) - score(kept), rel=1e-5)
    with pytest.raises(ValueError, match="max_length"):
        lm.loglikelihood(instances("loglikelihood", [("a", text)]), True)
    lm.engine.close()


def test_answers_and_their_settings(lm):
    said = lm.engine.generate("Once upon a time", max_tokens=9)
    hot = {"do_sample": True, "temperature": 1.2, "seed": 3, "max_gen_toks": 9}
    asked = [
        ("Once upon a time", {"until": ["\n\n"], "max_gen_toks": 9, "do_sample": False}),
        ("Once upon a time", {"until": " ", "max_tokens": 9}),
        ("Once upon a time", hot),
        ("Once " * 3000, {"max_gen_toks": 4}),
    ]
    answers = lm.generate_until(instances("generate_until", asked), disable_tqdm=True)
    assert answers[0] == said.text and answers[1] == said.text.split(" ")[0]
    wanted = lm.engine.generate("Once upon a time", max_tokens=9, temperature=1.2, seed=3)
    assert answers[2] == wanted.text != said.text
    assert len(answers) == 4
    with pytest.raises(TypeError, match="beams"):
        lm.generate_until(instances("generate_until", [("a", {"beams": 4})]), disable_tqdm=True)


def test_conversations():
    lm = foretoken.lm_eval.ForetokenLM(**ARGS)
    messages = [{"role": "user", "content": "Tell me a story."}]
    text = lm.apply_chat_template(messages)
    assert lm.tok_encode(text) == lm.model.chat_tokens(messages)
    assert lm.chat_template(True) and lm.chat_template(False) is None and lm.tokenizer_name
    lm.engine.close()


def test_the_command_line(tasks):
    command = [sys.executable, "-m", "foretoken.lm_eval", "run", "--model", "foretoken"]
    command += ["--model_args", "threads=1,measure=False", "--tasks", "made_up_choice"]
    command += ["--include_path", str(tasks), "--output_path", str(tasks / "out")]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "made_up_choice" in run.stdout
