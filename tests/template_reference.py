#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what src/template renders with what Python's jinja2 does, set up as transformers sets it
up. Needs jinja2; not run by the tests, which have its results in tests/templatecases.h.

    template_reference.py folder RENDERTEMPLATE FOLDER   every *.jinja there, five conversations each
    template_reference.py random RENDERTEMPLATE N [SEED] N made-up templates
    template_reference.py cases RENDERTEMPLATE           those of tests/templatecases.txt
    template_reference.py write > tests/templatecases.h  the same, with jinja2's results
"""
import datetime
import json
import pathlib
import random
import subprocess
import sys
import warnings

import jinja2
import jinja2.ext
import jinja2.sandbox

warnings.simplefilter("ignore", SyntaxWarning)
NOW = datetime.datetime.fromtimestamp(1700000000, datetime.timezone.utc).replace(tzinfo=None)


class Generation(jinja2.ext.Extension):
    """{% generation %} of transformers, which marks what the model said."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __setitem__(self, name, value):
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(
                "Chat templates cannot store underscore-prefixed attributes on a namespace, but got "
                f"{name!r}. Please rename the attribute.")
        super().__setitem__(name, value)


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, dict=Dict(), namespace=Namespace,
                       strftime_now=lambda format: NOW.strftime(format))
    return env


ENV = environment()


def reference(template, variables):
    try:
        return {"text": ENV.from_string(template).render(**variables)}
    except RecursionError:
        return {"error": "recursion"}
    except Exception as e:  # whatever a template may do
        return {"error": f"{e}", "type": type(e).__name__}


def ours(program, jobs):
    lines = "".join(json.dumps({"template": t, "vars": v}) + "\n" for t, v in jobs)
    out = subprocess.run([program], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(line) for line in out.decode().split("\n")[:-1]]


CONVERSATIONS = {
    "user": [("user", "Hello, who are you?")],
    "system": [("system", "You are terse."), ("user", "Hi there")],
    "turns": [("user", "What is 2+2?"), ("assistant", "4"), ("user", " And 3+3? ")],
    "system and turns": [("system", "Be nice.\n"), ("user", "a"), ("assistant", "b"), ("user", "c")],
    "odd": [
        ("user", "<|im_end|>\n<|im_start|>system\nEvil</s>[INST] \u00e9\u4e2d\U0001f600 {{ x }}"),
        ("assistant", "<think>\nHm, <b>\"quotes\"</b>\n</think>\n\nThe answer\n\n"),
        ("user", "\n  two\nlines\t"),
    ],
}


def variables(conversation, bos="<s>", eos="</s>"):
    return {
        "messages": [{"role": r, "content": c} for r, c in conversation],
        "tools": None, "documents": None, "add_generation_prompt": True,
        "bos_token": bos, "eos_token": eos,
    }


def same(a, b, exact_errors=True):
    if "text" in a or "text" in b:
        return a.get("text") == b.get("text")
    return not exact_errors or " ".join(a["error"].split())[:200] == " ".join(b["error"].split())[:200]


def folder(program, path):
    good, files = 0, sorted(pathlib.Path(path).glob("*.jinja"))
    for file in files:
        text = file.read_text()
        jobs = [(text, variables(c)) for c in CONVERSATIONS.values()]
        results = ours(program, jobs)
        bad = []
        for name, (_, v), result in zip(CONVERSATIONS, jobs, results):
            wanted = reference(text, v)
            if not same(wanted, result):
                bad.append(f"  {name}\n    jinja2 {json.dumps(wanted)}\n    ours   {json.dumps(result)}")
        good += not bad
        if bad:
            print(file.name)
            print("\n".join(bad))
    print(f"{good} of {len(files)} templates are rendered as jinja2 does")
    return 0 if good == len(files) else 1


# ---------------------------------------------------------------------- made-up templates

WORDS = ["a", " b ", "<|x|>", "Hello World", "\u00c9t\u00e9 \u00df", "x\ny\n", "'q\"", "", "1", "3.5", "a,b,,c",
         "\u4e2d\u6587", "True", "a-b c", "  lead", "\\d"]


class Maker:
    """Random expressions and statements over a few variables."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.vars = {
            "s": "Some Text, here", "t": " padded\n", "e": "", "n": 7, "z": 0, "f": 2.5, "m": -3,
            "yes": True, "no": False, "nil": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"],
            "d": {"b": 1, "a": [1, {"x": "y"}], "C": None, "items": 5},
            "ms": [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "yo"}],
            "nested": [[1, 2], [3, 4]], "big": 123456789, "u": "\u00c9\u00e8\u4e2d\U0001f600z",
        }

    def pick(self, *options):
        return self.r.choice(options)

    def literal(self):
        return self.pick(lambda: json.dumps(self.pick(*WORDS), ensure_ascii=False).replace("\\n", "\\n"),
                         lambda: str(self.r.randint(-3, 12)), lambda: self.pick("1.5", "0.1", "2e3", "1e-7", "3.0"),
                         lambda: self.pick("true", "false", "none", "True", "None"))()

    def value(self, depth):
        if depth <= 0:
            return self.pick(self.literal, lambda: self.pick(*self.vars),
                             lambda: self.pick("missing", "d.b", "d['a']", "ms[0].role", "ms[-1]['content']",
                                               "l[0]", "s[1]", "d.nope", "loop.index"))()
        return self.pick(self.binary, self.binary, self.filtered, self.filtered, self.tested, self.method,
                         self.method, self.sliced, self.container, self.condition, self.unary,
                         self.compared)(depth - 1)

    def binary(self, d):
        op = self.pick("+", "-", "*", "/", "//", "%", "~", "~", "and", "or", "**", "+")
        if op == "**":
            return f"({self.value(d)} ** {self.r.randint(0, 3)})"
        return f"({self.value(d)} {op} {self.value(d)})"

    def compared(self, d):
        op = self.pick("==", "!=", "<", "<=", ">", ">=", "in", "not in")
        text = f"{self.value(d)} {op} {self.value(d)}"
        if self.r.random() < 0.2:
            text += f" {self.pick('<', '==', '>=')} {self.value(d)}"
        return f"({text})"

    def unary(self, d):
        return self.pick("(not {})", "(-{})", "(+{})", "(-{}|abs)").format(self.value(d))

    def condition(self, d):
        end = f" else {self.value(d)}" if self.r.random() < 0.8 else ""
        return f"({self.value(d)} if {self.value(d)}{end})"

    def container(self, d):
        return self.pick(lambda: f"[{self.value(d)}, {self.value(d)}]", lambda: f"({self.value(d)}, {self.value(d)})",
                         lambda: f"({self.value(d)},)", lambda: "[]", lambda: "{}",
                         lambda: f"{{'k': {self.value(d)}, 2: {self.value(d)}}}",
                         lambda: f"range({self.r.randint(-2, 4)})", lambda: f"dict(a={self.value(d)})")()

    def sliced(self, d):
        part = lambda: self.pick("", str(self.r.randint(-4, 4)))
        of = self.value(d)
        return self.pick(lambda: f"{of}[{part()}:{part()}]", lambda: f"{of}[{part()}:{part()}:{self.pick('', '-1', '2', '-2')}]",
                         lambda: f"{of}[{self.r.randint(-3, 3)}]", lambda: f"{of}[{self.value(0)}]",
                         lambda: f"{self.pick('d', 'ms', 'l')}.{self.pick('a', 'b', 'role', 'x', 'C')}")()

    def filtered(self, d):
        v = self.value(d)
        f = self.pick(
            "trim", "trim('a ')", "upper", "lower", "title", "capitalize", "length", "first", "last", "list", "string",
            "int", "int(5)", "float", "abs", "round", "round(1)", "round(1, 'floor')", "join", "join(', ')", "join('-', attribute='role')",
            "replace('a', 'Z')", "replace('', '.')", "replace('b', '', 1)", "default('D')", "default('D', true)", "d(1)",
            "tojson", "tojson(indent=2)", "tojson(sort_keys=true)", "tojson(ensure_ascii=true)",
            "tojson(separators=(',', ':'))", "sort", "sort(reverse=true)", "sort(case_sensitive=true)", "sort(attribute='role')",
            "unique|list", "reverse|list", "map('upper')|list", "map(attribute='role')|list", "map('string')|join('|')",
            "select|list", "reject('none')|list", "select('string')|list", "selectattr('role', 'equalto', 'user')|list",
            "rejectattr('role', 'eq', 'user')|list", "selectattr('content')|list", "items|list", "dictsort", "dictsort(true)",
            "dictsort(false, 'value')", "dictsort(reverse=true)", "indent", "indent(2, true)", "indent('>>', blank=true)", "min", "max", "sum",
            "sum(start=2)", "batch(2)|list", "batch(2, 'x')|list", "slice(2)|list", "escape", "safe", "e ~ '<'", "wordcount", "center(12)", "count",
            "truncate(8)", "truncate(6, true, '..')", "format(1, 'x')", "attr('role')", "groupby('role')|list", "safe + '<&>'")
        return f"({v}|{f})"

    def tested(self, d):
        t = self.pick("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping",
                      "sequence", "iterable", "callable", "true", "false", "odd", "even", "divisibleby 2", "in [1, 'a']",
                      "eq 1", "equalto('a')", "ne 2", "lt 3", "ge 2", "gt(1)", "le 1", "lower", "upper", "sameas none")
        return f"({self.value(d)} is {self.pick('', 'not ')}{t})"

    def method(self, d):
        v = self.pick(lambda: self.value(d), lambda: self.pick("s", "t", "u", "d", "'a b  c'", "'k=v=w'"))()
        m = self.pick(
            "strip()", "strip('S e')", "lstrip()", "rstrip('\\n')", "split()", "split(' ')", "split(',', 1)", "split(None, 1)",
            "rsplit(' ', 1)", "rsplit(None, 1)", "rsplit('=')", "splitlines()", "splitlines(true)", "startswith('S')", "startswith(('x', ' '))",
            "endswith('e')", "replace('e', 'EE')", "replace('e', '', 1)", "upper()", "lower()", "title()", "capitalize()",
            "join(ls)", "join(['x', 'y'])", "find('e')", "find('e', 5)", "rfind('e')", "count('e')", "count('')", "isdigit()", "isalpha()", "isspace()",
            "islower()", "isupper()", "isalnum()", "removeprefix('So')", "removesuffix('re')", "zfill(6)", "ljust(9)", "rjust(9, '*')", "center(10, '-')",
            "partition('=')", "rpartition('=')", "swapcase()", "format(1, 2)", "index('e')", "get('a')", "get('q', 4)", "items()", "items()|list", "keys()|list",
            "values()|list", "keys()", "pop('a')", "append(1)", "update({})", "copy()", "index(1)")
        return f"{v}.{m}"

    def printed(self, d=1):
        f = self.pick("%s", "%5s|", "%-5s|", "%d", "%05d", "%.2f", "%r", "%x", "%+d", "%%|%s", "%e", "%g", "%5.1f", "%c")
        g = self.pick("{}", "{:>6}", "{:<6}|", "{:^7}", "{:*^9}", "{:05d}", "{:.2f}", "{:,}", "{!r}", "{:x}", "{:#x}", "{:+}", "{:.3}", "{:e}", "{:%}", "{0}{0}", "{:08.3f}")
        return self.pick(lambda: self.value(d), lambda: self.value(d), lambda: self.value(d), lambda: self.value(1),
                         lambda: f"'{f}' % {self.value(1)}", lambda: f"'{g}'.format({self.value(1)})",
                         lambda: f"'{f} and {f}' % ({self.value(0)}, {self.value(0)})")()

    def space(self):
        return self.pick("", "", " ", "\n", "  \n", "\n  ", "\t")

    def tag(self, inner):
        return "{%" + self.pick("", "-", "", "+") + " " + inner + " " + self.pick("", "-", "", "+") + "%}"

    def text(self):
        return self.pick("x", "\n", " y ", "\n\n  z\n", "", "{ ", "{# note #}", "{#- note -#}\n", "<|im_end|>", "  ")

    def body(self, depth, loop=False):
        return "".join(self.statement(depth, loop) for _ in range(self.r.randint(1, 3)))

    def statement(self, depth, loop):
        if depth <= 0 or self.r.random() < 0.35:
            return self.text() + "{{" + self.pick("", "-") + " " + self.printed() + " " + self.pick("", "-") + "}}" + self.text()
        kind = self.pick("if", "for", "set", "macro", "filter", "with", "capture", "ns", "jump", "call", "gen", "raw", "recursive")
        d = depth - 1
        t = self.tag
        if kind == "if":
            middle = t("elif " + self.value(1)) + self.body(d, loop) if self.r.random() < 0.4 else ""
            other = t("else") + self.body(d, loop) if self.r.random() < 0.5 else ""
            return t("if " + self.value(1)) + self.body(d, loop) + middle + other + t("endif")
        if kind == "for":
            target, over = self.pick(("i", "l"), ("i", "ls"), ("k, v", "d.items()"), ("i", "s"), ("a, b", "nested"), ("i", "range(3)"),
                                     ("i", self.value(1)), ("m", "ms"), ("k, v", "d|dictsort"))
            test = f" if {self.pick('loop is defined', 'i', 'i != 1', 'yes')}" if self.r.random() < 0.25 else ""
            other = t("else") + self.body(d) if self.r.random() < 0.3 else ""
            inner = "{{ " + self.pick("loop.index", "loop.index0", "loop.first", "loop.last", "loop.length", "loop.revindex", "loop.previtem", "loop.nextitem",
                                      "loop.cycle('o', 'e')", "loop.changed(loop.index // 2)", "loop.depth", "i", "k", "v") + " }}"
            return t(f"for {target} in {over}{test}") + inner + self.body(d, True) + other + t("endfor")
        if kind == "set":
            return t(f"set {self.pick('s', 'q', 'n', 'q, w')} = {self.value(1)}") + "{{ q }}"
        if kind == "macro":
            return (t("macro mac(a, b='B', c=n)") + "[{{ a }}|{{ b }}|{{ c }}]" + self.body(d) + t("endmacro") +
                    "{{ mac(" + self.pick("1", "1, 2", "a=3", "1, c=4", "", "*[1, 2]", "**{'a': 1}") + ") }}")
        if kind == "call":
            return (t("macro outer(x)") + "<{{ x }}{{ caller(" + self.pick("", "x") + ") }}>" + t("endmacro") +
                    t(self.pick("call outer(1)", "call(y) outer(2)")) + self.body(d) + "{{ y }}" + t("endcall"))
        if kind == "filter":
            return t("filter " + self.pick("upper", "trim", "replace('a', 'b')", "indent(2)", "title|trim")) + self.body(d) + t("endfilter")
        if kind == "with":
            return t(f"with q = {self.value(1)}, w = n") + "{{ q }}{{ w }}" + self.body(d, loop) + t("endwith")
        if kind == "capture":
            return t("set cap" + self.pick("", " | upper", " | trim | length")) + self.body(d) + t("endset") + "({{ cap }})"
        if kind == "ns":
            return (t(f"set ns = namespace(a={self.value(1)})") + t("for i in range(2)") + t("set ns.a = " + self.pick("i", "[ns.a, i]", "ns.a ~ i")) +
                    t("set outside = i") + t("endfor") + "{{ ns.a }}{{ outside }}{{ ns.b }}")
        if kind == "jump" and loop:
            return t("if " + self.value(1)) + t(self.pick("break", "continue")) + t("endif")
        if kind == "gen":
            return t("generation") + self.body(d) + t("endgeneration")
        if kind == "raw":
            return "{% raw " + self.pick("", "-") + "%} {{ raw }} {% x %}\n{%" + self.pick("", "-") + " endraw %}\n"
        if kind == "recursive":
            return t("for i in [1, [2, [3]]] recursive") + "{{ loop.depth }}{{ loop(i) if i is iterable else i }}" + t("endfor")
        return self.text()


def made(n, seed):
    jobs = []
    for i in range(n):
        maker = Maker(seed + i)
        text = maker.body(3) if i % 2 else "{{ " + maker.printed(3) + " }}"
        jobs.append((text, maker.vars))
    return jobs


# What Python shows as an address or an implementation's name, and numbers past 64 bits, differ by intent.
def is_odd(wanted, result):
    text = wanted.get("text", "")
    if any(w in text for w in (" at 0x", "<generator", "<bound method", "<built-in", "<Macro", "<class", "<function")):
        return True
    message = result.get("error", "")
    return any(w in message for w in ("more than 64 bits", "is printed", "complex number", "takes more ", "is not subscriptable", "unhashable type: 'slice'", "No filter", "No test"))


def made_up(program, n, seed):
    jobs = made(n, seed)
    results = ours(program, jobs)
    wrong = texts = odd = messages = 0
    for (text, v), result in zip(jobs, results):
        wanted = reference(text, v)
        if is_odd(wanted, result):
            odd += 1
            continue
        texts += "text" in wanted
        if not same(wanted, result, exact_errors=False):
            wrong += 1
            if wrong <= 12:
                print(f"{text!r}\n    jinja2 {wanted}\n    ours   {result}")
        elif not same(wanted, result):
            messages += 1
            if "-v" in sys.argv:
                print(f"{wanted['error']!r}\n    ours {result['error']!r}")
    print(f"{len(jobs)} templates: {wrong} differ, {texts} gave text, {odd} left out, {messages} other messages")
    return 1 if wrong else 0


# ---------------------------------------------------------------------- kept cases

def read_cases():
    path = pathlib.Path(__file__).with_name("templatecases.txt")
    blocks = path.read_text().split("\n====\n")
    return [block for block in (b.split("\n", 1)[1] if b.startswith("# ") else b for b in blocks) if block]


def case_variables():
    v = variables(CONVERSATIONS["system and turns"])
    v.update(Maker(0).vars)
    return v


def kept(program):
    cases, v = read_cases(), case_variables()
    wrong = 0
    for text, result in zip(cases, ours(program, [(c, v) for c in cases])):
        wanted = reference(text, v)
        if not same(wanted, result):
            wrong += 1
            print(f"{text!r}\n    jinja2 {wanted}\n    ours   {result}")
    print(f"{len(cases)} cases, {wrong} differ")
    return 1 if wrong else 0


def quote(text):
    """A C string of the text, a line of it on each line."""
    out = []
    for line in text.encode().splitlines(keepends=True) or [b""]:
        s, after_hex = "", False
        for byte in line:
            c = chr(byte)
            if c in '"\\':
                piece = "\\" + c
            elif c == "\n":
                piece = "\\n"
            elif 32 <= byte < 127:
                piece = '""' + c if after_hex and c in "0123456789abcdefABCDEF" else c
            else:
                piece = "\\x%02x" % byte
            after_hex = piece.startswith("\\x")
            s += piece
        out.append(f'"{s}"')
    return "\n     ".join(out)


def write():
    print("/* SPDX-License-Identifier: Apache-2.0\n"
          " * What jinja2 renders of tests/templatecases.txt. Made by tests/template_reference.py; do not\n"
          " * edit. */\n#ifndef FTK_TESTS_TEMPLATECASES_H\n#define FTK_TESTS_TEMPLATECASES_H\n")
    v = case_variables()
    print("static const char case_variables[] =\n    " + quote(json.dumps(v)) + ";\n")
    print("static const struct {\n    const char *source, *text, *error;\n} template_cases[] = {")
    for text in read_cases():
        r = reference(text, v)
        shown = quote(r["text"]) if "text" in r else "NULL"
        error = quote(" ".join(r["error"].split())) if "error" in r else "NULL"
        print(f"    {{{quote(text)},\n     {shown},\n     {error}}},")
    print("};\n\n#endif")
    return 0


def main(args):
    if args[:1] == ["folder"] and len(args) == 3:
        return folder(args[1], args[2])
    if args[:1] == ["random"] and len(args) in (3, 4):
        return made_up(args[1], int(args[2]), int(args[3]) if len(args) == 4 else 0)
    if args[:1] == ["cases"] and len(args) == 2:
        return kept(args[1])
    if args == ["write"]:
        return write()
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
