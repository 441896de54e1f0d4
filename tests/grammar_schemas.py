#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Grammars beside Python's jsonschema: grammar_schemas.py GRAMMARSAY [SCHEMAS] [SEED]

Schemas are made by chance. What a grammar says must be JSON that jsonschema finds valid; values that
jsonschema finds valid and that keep to the order of properties must be taken, and others must not be."""
import json
import math
import random
import subprocess
import sys
import tempfile

import jsonschema

PATTERNS = ["^[a-z]+$", "ab*c", "^(foo|bar)-[0-9]{2,4}$", "^\\d{3}$", "[^a-z]", "^.{2,5}$", "x$", "^\\w+@\\w+$",
            "^(é|ß|日本)+$", "^[A-F\\d]{1,3}(:[A-F\\d]{1,3}){2}$", "^\"q\"$", "a|^b$", "^$", ""]


def string(r):
    s = {"type": "string"}
    kind = r.randrange(4)
    if kind == 1:
        s["pattern"] = r.choice(PATTERNS)
    if kind >= 2 or r.random() < 0.2:
        low = r.randrange(4)
        if r.random() < 0.7:
            s["minLength"] = low
        if r.random() < 0.7:
            s["maxLength"] = low + r.randrange(6)
    return s


def number(r):
    s = {"type": r.choice(["integer", "number"])}
    if r.random() < 0.6:
        at = r.choice([r.randrange(-20, 20), r.randrange(-3000, 3000), round(r.uniform(-5, 5), 2), r.uniform(-1e6, 1e6)])
        span = r.choice([0, 1, 7, 0.25, 100, 12345])
        if r.random() < 0.8:
            s[r.choice(["minimum", "exclusiveMinimum"])] = at
        if r.random() < 0.8:
            s[r.choice(["maximum", "exclusiveMaximum"])] = at + span
    return s


def literal(r):
    return r.choice([None, True, False, 0, -3, 2.5, 1e-7, "", "a", "\"\\\n", "é", "名", [1, "x"], {"k": [None]}, {}])


def schema(r, depth, refs):
    kind = r.randrange(12 if depth > 0 else 7)
    if kind <= 1:
        return string(r)
    if kind == 2:
        return number(r)
    if kind == 3:
        return {"type": r.choice(["boolean", "null"])}
    if kind == 4:
        return {"enum": [literal(r) for _ in range(r.randrange(1, 5))]}
    if kind == 5:
        return {"const": literal(r)}
    if kind == 6:
        return r.choice([{"type": ["string", "null"]}, {"type": ["integer", "boolean"]}, {}, True,
                         {"$ref": r.choice(refs)} if refs and depth < 3 else {"type": "null"}])
    if kind <= 9:
        names = r.sample(["a", "b", "ab", "name", "é", "x y", "\"", "id", "n1", "zz"], r.randrange(0, 5))
        s = {"type": "object", "properties": {n: schema(r, depth - 1, refs) for n in names}}
        s["required"] = [n for n in names if r.random() < 0.5]
        if r.random() < 0.6:
            s["additionalProperties"] = r.choice([False, False, True, {"type": "integer"}, {"type": "string", "maxLength": 2}])
        if r.random() < 0.1:
            s["required"].append("extra")
        return s
    if kind == 10:
        s = {"type": "array"}
        if r.random() < 0.8:
            s["items"] = schema(r, depth - 1, refs)
        if r.random() < 0.3:
            s["prefixItems"] = [schema(r, depth - 1, refs) for _ in range(r.randrange(1, 4))]
            if r.random() < 0.5:
                s["items"] = False
        low = r.randrange(3)
        if r.random() < 0.5:
            s["minItems"] = low
        if r.random() < 0.5:
            s["maxItems"] = low + r.randrange(3)
        return s
    return {r.choice(["anyOf", "anyOf", "oneOf", "allOf"]): [schema(r, depth - 1, refs) for _ in range(r.randrange(1, 4))]}


def root_schema(r):
    refs = ["#/$defs/one", "#/$defs/two", "#"]
    s = schema(r, 3, refs)
    if not isinstance(s, dict):
        s = {}
    s["$defs"] = {"one": schema(r, 2, refs), "two": schema(r, 1, refs)}
    return s


def value(r, depth):
    kind = r.randrange(8 if depth else 6)
    if kind == 0:
        return r.choice(["", "a", "abc", "foo-12", "123", "x", "日本", "a@b", "\n", "A:1:2", "zzzzzz", "😀"])
    if kind == 1:
        return r.choice([0, 1, -1, 5, -20, 17, 100, 2999, -3000, 12345678])
    if kind == 2:
        return r.choice([0.5, -2.25, 1.5, 3.125, -4.99])
    if kind <= 4:
        return r.choice([None, True, False])
    if kind == 5:
        return literal(r)
    if kind == 6:
        return [value(r, depth - 1) for _ in range(r.randrange(4))]
    names = r.sample(["a", "b", "ab", "name", "é", "id", "n1", "extra", "q"], r.randrange(4))
    return {n: value(r, depth - 1) for n in names}


def near(r, s, root, depth=6):
    """A value that may well be valid."""
    if not isinstance(s, dict) or depth == 0 or r.random() < 0.05:
        return value(r, 2)
    if "$ref" in s:
        at = root
        for part in s["$ref"].split("/")[1:]:
            at = at[part]
        return near(r, at, root, depth - 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in s:
            return near(r, r.choice(s[key]), root, depth - 1)
    if "enum" in s:
        return r.choice(s["enum"])
    if "const" in s:
        return s["const"]
    kind = s.get("type")
    if isinstance(kind, list):
        kind = r.choice(kind)
    if kind == "object":
        out = {}
        for name, inner in s.get("properties", {}).items():
            if name in s.get("required", []) or r.random() < 0.5:
                out[name] = near(r, inner, root, depth - 1)
        if "extra" in s.get("required", []) or r.random() < 0.2:
            out["extra"] = near(r, s.get("additionalProperties", True), root, depth - 1)
        return out
    if kind == "array":
        n = s.get("minItems", 0) + r.randrange(3)
        given = s.get("prefixItems", [])
        return [near(r, given[i] if i < len(given) else s.get("items", True), root, depth - 1) for i in range(n)]
    if kind in ("integer", "number"):
        low = s.get("minimum", s.get("exclusiveMinimum", s.get("maximum", s.get("exclusiveMaximum", 0))))
        x = low + r.choice([0, 1, -1, 0.5, 3, 0.25])
        return math.floor(x) if kind == "integer" else x
    if kind == "string":
        return r.choice(["", "a", "ab", "abc", "foo-12", "bar-1234", "123", "x", "日本", "a@b", "A:1:F2", "\"q\"", "zzzzzz"])
    return r.choice([None, True, False])


def closed(s):
    """What grammars make of it: no other names where some are given, an object where properties are."""
    if isinstance(s, list):
        return [closed(x) for x in s]
    if not isinstance(s, dict):
        return s
    out = {k: v if k in ("enum", "const", "required") else closed(v) for k, v in s.items()}
    if isinstance(s.get("properties"), dict) and s["properties"] and "additionalProperties" not in s and "type" in s:
        for n in s.get("required", []):
            out["properties"].setdefault(n, True)
        out["additionalProperties"] = False
    if "prefixItems" in s and "items" not in s and s.get("minItems", 0) <= len(s["prefixItems"]):
        out["items"] = False
    return out


def in_order(v, s, root):
    """Whether members come in the order of properties; of what is not simple, no answer."""
    if not isinstance(s, dict) or not isinstance(v, (dict, list)):
        return True
    if any(k in s for k in ("anyOf", "oneOf", "allOf", "$ref", "enum", "const")):
        return None
    if isinstance(v, list):
        given = s.get("prefixItems", [])
        all_ = [in_order(x, given[i] if i < len(given) else s.get("items", True), root) for i, x in enumerate(v)]
        return None if None in all_ else all(all_)
    names = list(s.get("properties", {}))
    names += [n for n in s.get("required", []) if n not in names]
    at = [names.index(n) if n in names else len(names) for n in v]
    if at != sorted(at):
        return False
    all_ = [in_order(x, s.get("properties", {}).get(n, s.get("additionalProperties", True)), root) for n, x in v.items()]
    return None if None in all_ else all(all_)


def odd_number(v):
    if isinstance(v, float):
        return len(repr(v)) > 14 or v != 0 and not 1e-4 < abs(v) < 1e15
    if isinstance(v, (list, dict)):
        return any(odd_number(x) for x in (v.values() if isinstance(v, dict) else v))
    return False


def main():
    program = sys.argv[1]
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    counts = {"refused": 0, "said": 0, "taken": 0, "not taken": 0}
    bad = 0
    for i in range(n):
        r = random.Random(seed * 1000003 + i)
        s = root_schema(r)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump(s, f, ensure_ascii=False)
            f.flush()
            said = subprocess.run([program, f.name, "12", str(i)], capture_output=True)
            if said.returncode == 1:
                counts["refused"] += 1
                text = said.stdout.decode()
                if "no value fits" not in text and "oneOf" not in text and "twice" not in text and "together" not in text and "beside enum" not in text and "is no property" not in text:
                    print(i, text, json.dumps(s))
                    bad += 1
                continue
            if said.returncode != 0:
                print(i, "status", said.returncode, said.stderr.decode(), json.dumps(s))
                bad += 1
                continue
            validator = jsonschema.Draft202012Validator(s)
            for line in said.stdout.decode().split("\n")[:-1]:
                counts["said"] += 1
                try:
                    validator.validate(json.loads(line))
                except Exception as e:
                    bad += 1
                    print(i, "says", line, "of", json.dumps(s, ensure_ascii=False), str(e).splitlines()[0])
            tight = jsonschema.Draft202012Validator(closed(s))
            values = [near(r, s, s) for _ in range(12)]
            texts = [json.dumps(v, ensure_ascii=False) for v in values]
            answers = subprocess.run([program, f.name], input="\n".join(texts) + "\n", capture_output=True,
                                     text=True).stdout.split()
            for v, text, answer in zip(values, texts, answers):
                if odd_number(v):
                    continue
                valid = tight.is_valid(v)
                ordered = in_order(v, s, s) if valid else False
                if ordered is None and valid:
                    continue
                counts["taken" if answer == "yes" else "not taken"] += 1
                if (answer == "yes") != bool(valid and ordered):
                    bad += 1
                    print(i, answer, text, "of", json.dumps(s, ensure_ascii=False))
            if bad > 20:
                break
    print(counts, "wrong:", bad)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
