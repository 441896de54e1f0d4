"""What drafters are trained and measured on: the demo's corpora, or a text file of the user's own.

Both have  bos (None if there is none), padding, ends (ids that end an answer), words (a dictionary that
tells them from other texts), check(path, model), samples(share, own, length), prompts(held, count, rng),
written() and counts(size).
"""
import gzip
import json
import lzma
import zlib
from pathlib import Path

from common import SOURCES, Tokens, chat_pair, die, load_tokens
from llamafile import Gguf, clear_errors
from vocabularies import open_vocabulary

import numpy as np

OWN_PROMPT = 96             # tokens at most
HELD_SHARE, HELD_LEAST, HELD_MOST = 0.02, 4096, 16384   # tokens held out; read in a report at most
LEAST = 4 * HELD_LEAST      # tokens of a text
BLOCK = 1 << 22             # characters that are encoded at once


def choose_prompts(pool, count, rng):
    """Of pool [(documents, i, plain)]: conversations up to one of their answers, and the beginnings
    of plain documents."""
    rng.shuffle(pool)
    prompts = []
    for documents, i, plain in pool:
        ids, mine = documents.doc(i)
        starts = np.flatnonzero(np.diff(mine.astype(np.int8)) == 1) + 1
        if plain:
            starts = np.array([rng.integers(8, 48)])
        starts = starts[(starts <= OWN_PROMPT) & (starts < len(ids))]
        if len(starts) and len(prompts) < count:
            prompts.append(ids[:rng.choice(starts)].astype(np.int64))
    return prompts


# ---------------------------------------------------------------------------------------------


class Corpora:
    """The demo's: conversations and some documents, with their own validation split."""

    padding = 0     # the unknown token

    def __init__(self, data, work):
        self.tokens = Tokens(Path(work) / "tokenizer.model")
        self.bos, self.ends = self.tokens.bos, [self.tokens.im_end, self.tokens.eos]
        self.splits, self.words = load_tokens(data, work), {}

    def check(self, path, model):
        sp = self.tokens.sp
        pieces = [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
        if len(pieces) != model.c.vocab:
            die(f"{path} has {model.c.vocab} tokens, tokenizer.model {len(pieces)}: WORK has to hold "
                "the model's own tokenizer")
        with clear_errors(path):
            if str(path).endswith(".gguf") and Gguf(path).get("tokenizer.ggml.tokens") != pieces:
                die(f"{path} has another tokenizer than tokenizer.model in WORK: WORK has to hold the "
                    "model's own")

    def samples(self, share, own, length):
        """What finetune.rows() packs: the conversations of an epoch, each source at its rate, with
        `share` of all pieces of documents and every answer of the model's own."""
        def samples(_, epoch):
            rng = np.random.default_rng(5000 + epoch)
            items = []
            for source in SOURCES:
                split = self.splits[source.name][0]
                for i in range(len(split)):
                    if source.kind in ("text", "stories"):
                        for at in range(0, len(split.doc(i)[0]), length + 1):
                            if rng.random() < share:
                                items.append((split, i, at))
                    elif source.sft and rng.random() < source.sft:
                        items.append((split, i, 0))
            items += [(None, i, 0) for i in range(len(own))]
            rng.shuffle(items)
            for split, i, at in items:
                ids, mine = own[i] if split is None else \
                    (v[at:at + length + 1] for v in split.doc(i))
                if mine[1:].any():
                    yield ids, mine
        return samples

    def prompts(self, held, count, rng):
        """Of the training texts, or of the held-out conversations of the assistant sources."""
        rate = lambda s: max(s.sft, 0.3 * (s.group == "books"))
        chosen = lambda s: s.group == "assistant" if held else rng.random() < rate(s)
        return choose_prompts([(self.splits[s.name][int(held)], i, s.kind in ("text", "stories"))
                               for s in SOURCES for i in range(len(self.splits[s.name][int(held)]))
                               if chosen(s)], count, rng)

    def written(self):
        """Held-out conversations of the assistant sources, as written."""
        splits = [self.splits[s.name][1] for s in SOURCES if s.group == "assistant"]
        return [split.doc(i) for split in splits for i in range(len(split))]

    def counts(self, size):
        """How often each token stands in training answers."""
        seen = np.zeros(size, np.int64)
        for source in SOURCES:
            if source.sft:
                split = self.splits[source.name][0]
                seen += np.bincount(split.ids[split.mine == 1], minlength=size)
        return seen


# ---------------------------------------------------------------------------------------------


class Documents(list):
    """(ids, mine) each, as common.Split gives them."""

    def doc(self, i):
        return self[i]


class TextFile:
    """Plain text, or JSON lines of conversations: {"messages": [{"role", "content"}, ...]} or
    {"prompt", "response"}. The end of it is held out."""

    def __init__(self, path, most, length, model_path, program):
        self.path, self.most, self.length, self.skipped = path, most, length, 0
        self.vocabulary = v = open_vocabulary(model_path, program)
        self.bos, self.ends = v.bos, v.ends
        self.padding = v.eos if v.bos is None else v.bos
        self.divide(self.read())
        train, held = (sum(len(ids) for ids, _ in d) for d in (self.train, self.held))
        print(f"{path}: {'plain text' if self.plain else 'conversations'}, {train} tokens to learn and "
              f"{held} held out" + (f"; {self.skipped} conversations were left out, which have no "
              "answer or which the model's chat template does not take" if self.skipped else ""),
              flush=True)
        self.words = {"text": f"{zlib.crc32(np.concatenate([d[0] for d in self.train])):08x}"}

    def check(self, path, model):
        highest = max(int(ids.max()) for ids, _ in self.train + self.held)
        if highest >= model.c.vocab:
            die(f"{path}: its tokenizer makes the token {highest}, but the model has "
                f"{model.c.vocab}: the tokenizer is another model's")

    def read(self):
        opened = {".xz": lzma.open, ".gz": gzip.open}.get(Path(self.path).suffix, open)
        try:
            with opened(self.path, "rt", encoding="utf-8-sig", errors="replace") as f:
                first = f.readline(BLOCK)
                while first and not first.strip():
                    first = f.readline(BLOCK)
                self.plain = not first.lstrip().startswith('{"')
                return self.pieces(blocks(first, f)) if self.plain else \
                    self.conversations(blocks(first, f))
        except (OSError, EOFError, lzma.LZMAError) as e:
            die(f"cannot read {self.path}: {e}")

    def pieces(self, parts):
        """A plain text in rows."""
        encoded, n = [np.zeros(0, np.int32)], 0
        for part in parts:
            encoded.append(self.vocabulary.encode([part], False)[0])
            n += len(encoded[-1])
            if n >= self.most:
                break
        ids = np.concatenate(encoded)[:self.most]
        start = np.array([] if self.bos is None else [self.bos], np.int32)
        step = self.length + 1 - len(start)
        rows = [np.concatenate((start, ids[at:at + step])) for at in range(0, len(ids), step)]
        return Documents((d, (np.arange(len(d)) > 0).astype(np.uint8)) for d in rows if len(d) > 1)

    def conversations(self, parts):
        done, n = Documents(), 0
        template = Template(self.vocabulary)
        for part in parts:
            rendered = [template.render(line) for line in part.split("\n") if line.strip()]
            self.skipped += rendered.count(None)
            for ids, mine in self.encode([r for r in rendered if r]):
                done.append((ids, mine))
                n += len(ids)
                if n >= self.most:
                    return done
        return done

    def encode(self, rendered):
        """Of conversations as Template.render() gives them: ids, and which are the assistant's: those
        behind the beginning up to the next end token, which is its too."""
        flat = self.vocabulary.encode([t for texts in rendered for t in texts], True) if rendered else []
        at = 0
        for texts in rendered:
            ids, beginnings = flat[at], flat[at + 1:at + len(texts)]
            at += len(texts)
            mine, ends = np.zeros(len(ids), np.uint8), np.flatnonzero(np.isin(ids, self.ends))
            for b in beginnings:
                n = min(len(ids), len(b))
                other = np.flatnonzero(ids[:n] != b[:n])
                first = int(other[0]) if len(other) else n
                behind = ends[ends >= first]
                mine[first:behind[0] + 1 if len(behind) else len(ids)] = 1
            if self.bos is not None and ids[:1] != [self.bos]:
                ids, mine = np.append(np.int32(self.bos), ids), np.append(np.uint8(0), mine)
            ids, mine = ids[:self.length + 1], mine[:self.length + 1]
            if mine[1:].any():
                yield ids, mine
            else:
                self.skipped += 1

    def divide(self, documents):
        total = sum(len(ids) for ids, _ in documents)
        if total < LEAST:
            die(f"{self.path} has {total} tokens: at least {LEAST} are needed, and a drafter learns "
                "better from a million")
        held, at = max(HELD_SHARE * total, HELD_LEAST), len(documents)
        while held > 0:
            at -= 1
            held -= len(documents[at][0])
        self.train, self.held = Documents(documents[:at]), Documents(documents[at:])

    def samples(self, _, own, length):
        """What finetune.rows() packs: the text of an epoch and every answer of the model's own."""
        def samples(_, epoch):
            items = [*self.train, *own]
            for i in np.random.default_rng(5000 + epoch).permutation(len(items)):
                yield items[i]
        return samples

    def prompts(self, held, count, rng):
        documents = self.held if held else self.train
        if self.plain:      # of all parts of the text
            documents = Documents((np.append(ids[:mine.argmax()], ids[at:at + OWN_PROMPT]), mine)
                                  for ids, mine in documents
                                  for at in range(int(mine.argmax()), len(ids), OWN_PROMPT))
        return choose_prompts([(documents, i, self.plain) for i in range(len(documents))], count, rng)

    def written(self):
        """Of what is held out, evenly chosen, as much as a report reads."""
        step = max(1, sum(len(ids) for ids, _ in self.held) // HELD_MOST)
        return self.held[::step]

    def counts(self, size):
        return np.bincount(np.concatenate([ids[mine == 1] for ids, mine in self.train]), minlength=size)


def blocks(first, f):
    """The line `first` and the rest of the file, in parts of about BLOCK characters that end with a
    line."""
    rest = first
    while more := f.read(BLOCK):
        text = rest + more
        cut = text.rfind("\n") + 1 or len(text)
        if text[:cut].strip():
            yield text[:cut]
        rest = text[cut:]
    if rest.strip():
        yield rest


class Template:
    """The model's chat template, which is written in Jinja."""

    def __init__(self, vocabulary):
        try:
            import jinja2.sandbox as sandbox
        except ImportError:
            die("the package jinja2 is missing: pip install -r requirements.txt")

        def refuse(message):
            raise ValueError(message)

        world = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                      extensions=["jinja2.ext.loopcontrols"])
        world.globals |= {"raise_exception": refuse, "strftime_now": lambda form: "",
                          "bos_token": vocabulary.word(vocabulary.bos),
                          "eos_token": vocabulary.word(vocabulary.eos)}
        try:
            self.template = world.from_string(vocabulary.template)
        except Exception as e:
            die(f"the model's chat template cannot be used: {e}; give plain text")

    def render(self, line):
        """[the conversation, what stands before its first answer, before its second, ...] of a JSON
        line; None where it has no answer or the template does not take it."""
        try:
            row = json.loads(line)
            messages = row["messages"] if "messages" in row else \
                chat_pair(row["prompt"], row["response"])
            answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
            if not answers or not all(m["content"].strip() for m in messages):
                return None
            whole = self.template.render(messages=messages, add_generation_prompt=False)
            return [whole] + [self.template.render(messages=messages[:i], add_generation_prompt=True)
                              for i in answers if i > 0]
        except Exception:       # of JSON, of a template's own, or of what it does with odd messages
            return None
