"""A model's own vocabulary: text to token ids as the runtime makes them, by the program `foretoken` for
a GGUF file, by tokenizer.json or tokenizer.model for a folder."""
import json
import re
import shutil
import subprocess
from pathlib import Path

from common import die
from llamafile import Gguf, clear_errors

import numpy as np

CHATML = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>")
BOS_UNASKED = ("llama-bpe", "llama3", "llama-v3", "falcon3", "tekken", "pixtral")   # pretokenizer.c
REPOSITORY = Path(__file__).resolve().parents[2]


class Vocabulary:
    """word(id); bos: the token that stands before a text, None if none does; eos; template: of
    chats; ends: ids that end an answer; encode(texts, special): a list of arrays of ids, where
    `special` reads control tokens that are written out."""

    def finish(self, bos, add_bos, eos, template, ends):
        """`eos` and `ends` may hold None."""
        self.bos, self.eos, self.template = bos if add_bos else None, eos, template or CHATML
        self.ends = sorted({t for t in (eos, *ends) if t is not None})
        if not self.ends:
            die("the model names no token that ends a text (eos): it cannot be trained for")


class ByProgram(Vocabulary):
    """Of a GGUF file."""

    def __init__(self, path, program):
        self.path, self.program = path, program or find_program()
        with clear_errors(path):
            f = Gguf(path)
            words = f.get("tokenizer.ggml.tokens") or []
            get = lambda key, default=None: f.get(f"tokenizer.ggml.{key}", default)
            pieces = get("model") == "llama"
            eos = get("eos_token_id", 2 if pieces else None)
            ends = [get("eot_token_id"), get("eom_token_id"),
                    *(words.index(w) for w in ENDS if w in words)]
            self.words = words
            bos = get("bos_token_id", 1 if pieces else None)
            add_bos = get("add_bos_token", pieces or get("pre") in BOS_UNASKED)
            self.finish(bos, add_bos, eos, f.get("tokenizer.chat_template"), ends)

    def word(self, token):
        return self.words[token] if token is not None else ""

    def call(self, text, special):
        command = [str(self.program), "tokenize", "-m", str(self.path)] + ["--special"] * special
        try:
            done = subprocess.run(command, input=text.encode(), capture_output=True)
        except OSError as e:
            die(f"cannot run {self.program}: {e}; build it with ./dev build, or give --foretoken PATH")
        if done.returncode:
            die(f"{self.program} tokenize: {done.stderr.decode(errors='replace').strip()}")
        return np.array(done.stdout.split(), np.int32)

    def encode(self, texts, special):
        """Several texts go through the program at once, with four end tokens between them."""
        if len(texts) == 1:
            return [self.call(texts[0], special)]
        ids = self.call((4 * self.word(self.eos)).join(texts), True)
        run, parts, first = 0, [], 0
        for i, token in enumerate(ids.tolist()):
            if run >= 4 and token != self.eos:
                parts.append(ids[first:i - 4])
                first = i
            run = run + 1 if token == self.eos else 0
        parts.append(ids[first:])
        if len(parts) != len(texts):
            die(f"{self.path}: its end token {self.word(self.eos)!r} is not read in a text as a control "
                "token, which conversations need: give plain text")
        return parts


def find_program():
    built = REPOSITORY / "build/release/foretoken"
    found = built if built.is_file() else shutil.which("foretoken")
    return found or die("the program foretoken, which makes tokens of the text, is not built: run "
                        "./dev build, or give --foretoken PATH")


class ByFolder(Vocabulary):
    """What folders share: their settings."""

    usual = (None, None)    # bos and eos where no setting names them

    def __init__(self, path):
        with clear_errors(path):
            read = lambda name: json.loads((path / name).read_text(encoding="utf-8")) \
                if (path / name).is_file() else {}
            j, model = read("tokenizer_config.json"), read("config.json")
            word = lambda v: v.get("content") if isinstance(v, dict) else v
            ids = lambda v: v if isinstance(v, list) else [v]
            bos, eos = (self.find(word(j.get(f"{k}_token"))) for k in ("bos", "eos"))
            bos = model.get("bos_token_id", self.usual[0]) if bos is None else bos
            ends = ids(model.get("eos_token_id", self.usual[1])) + [self.find(w) for w in ENDS]
            template = j.get("chat_template")
            if isinstance(template, list):
                template = {t["name"]: t["template"] for t in template}.get("default")
            if (path / "chat_template.jinja").is_file():
                template = (path / "chat_template.jinja").read_text(encoding="utf-8")
            self.finish(bos, self.puts_bos(bos, j), ends[0] if eos is None else eos, template, ends)


class ByTokenizers(ByFolder):
    """Of a folder's tokenizer.json."""

    def __init__(self, path):
        try:
            from tokenizers import Tokenizer
        except ImportError:
            die("the package tokenizers is missing: pip install -r requirements.txt")
        try:
            self.encoder = Tokenizer.from_file(str(path / "tokenizer.json"))
            self.literal = Tokenizer.from_file(str(path / "tokenizer.json"))
            self.literal.encode_special_tokens = True
        except Exception as e:      # the package raises nothing narrower
            die(f"cannot read {path / 'tokenizer.json'}: {e}")
        super().__init__(path)

    def find(self, word):
        return self.encoder.token_to_id(word) if word else None

    def word(self, token):
        return self.encoder.id_to_token(token) if token is not None else ""

    def puts_bos(self, bos, j):
        return bos is not None and self.encoder.encode("a").ids[:1] == [bos]

    def encode(self, texts, special):
        encoder = self.encoder if special else self.literal
        return [np.array(e.ids, np.int32)
                for e in encoder.encode_batch(texts, add_special_tokens=False)]


class BySentencepiece(ByFolder):
    """Of a folder's tokenizer.model."""

    def __init__(self, path):
        import sentencepiece
        file = str(path / "tokenizer.model")
        try:
            self.sp = sentencepiece.SentencePieceProcessor(model_file=file)
        except (OSError, RuntimeError) as e:
            die(f"cannot read {file}: {e}")
        self.usual = tuple(t if t >= 0 else None for t in (self.sp.bos_id(), self.sp.eos_id()))
        control = [self.sp.id_to_piece(i) for i in range(self.sp.get_piece_size())
                   if self.sp.is_control(i)]
        self.control = re.compile("(" + "|".join(map(re.escape, control)) + ")")
        super().__init__(path)

    def find(self, word):
        token = self.sp.piece_to_id(word) if word else self.sp.unk_id()
        return None if token == self.sp.unk_id() else token

    def word(self, token):
        return self.sp.id_to_piece(token) if token is not None else ""

    def puts_bos(self, bos, j):
        return j.get("add_bos_token", True)

    def encode(self, texts, special):
        if not special:
            return [np.array(ids, np.int32) for ids in self.sp.encode(list(texts))]
        return [np.array([i for k, part in enumerate(self.control.split(text)) if part for i in
                          ([self.sp.piece_to_id(part)] if k % 2 else self.sp.encode(part))], np.int32)
                for text in texts]


def open_vocabulary(path, program):
    """Of the model at `path`."""
    path = Path(path)
    if path.is_dir():
        if (path / "tokenizer.json").is_file():
            v = ByTokenizers(path)
        elif (path / "tokenizer.model").is_file():
            v = BySentencepiece(path)
        else:
            die(f"{path} has no tokenizer.json and no tokenizer.model; copy the model's own there")
    elif path.suffix == ".gguf":
        v = ByProgram(path, program)
    else:
        die(f"{path} holds no vocabulary: with --text give a .gguf file (export_gguf.py makes one) or "
            "a folder")
    return v
