#!/usr/bin/env python3
"""What Python's own json module makes of bodies: lines of JSON, or an array or sequence of values.

Reads bodies, each after its length as four bytes, from a file. Prints one JSON document a line:
`{"rows": [[text or null, ...]], "rejects": [byte offset]}`, or `{"refused": why}`. All columns are text:
a number fills one as it is spelled, everything else that is neither text nor null does not.
"""

import json
import struct
import sys

SPACE = " \t\n\r"


class Rejected(Exception):
    pass


class Number(str):
    """As spelled."""


class Object(list):
    """Keys and values in order, repeats and all."""


def no_constant(name):
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=no_constant)


def has_surrogate(text):
    return any("\ud800" <= char <= "\udfff" for char in text)


def row(value, fields):
    if not isinstance(value, Object):
        raise Rejected("not an object")
    record = {}
    for key, member in value:
        if has_surrogate(key):
            raise Rejected("half of a character in a key")
        if key not in fields:
            continue
        if key in record:
            raise Rejected(f"{key} twice")
        if member is not None and not isinstance(member, str):
            raise Rejected(f"{key} is neither text nor number")
        if member is not None and has_surrogate(member):
            raise Rejected(f"half of a character in {key}")
        record[key] = member
    return [record.get(field) for field in fields]


def read_lines(body, fields):
    rows, rejects, offset = [], [], 0
    for number, line in enumerate(body.split(b"\n")):
        start = offset
        offset += len(line) + 1
        if number == 0 and line.startswith(b"\xef\xbb\xbf"):
            line, start = line[3:], start + 3
        line = line[:-1] if line.endswith(b"\r") else line
        if not line.strip(b" \t\r\f"):
            continue
        try:
            rows.append(row(DECODER.decode(line.decode()), fields))
        except (Rejected, ValueError):
            rejects.append(start)
    return rows, rejects


def is_bare(char):
    return char.isascii() and char.isalnum() or char in tuple("+-.")


def read_objects(body, fields):
    """A value that is no JSON spoils the body: where the next one starts would be a guess."""
    # Bytes that are no UTF-8 become surrogates, which are looked for in the text of each object.
    text = body.decode(errors="surrogateescape")
    rows, rejects, at = [], [], 0

    def skip(at):
        while at < len(text) and text[at] in SPACE:
            at += 1
        return at

    def one(at):
        value, end = DECODER.raw_decode(text, at)
        if is_bare(text[end - 1]) and is_bare(text[end:end + 1]):
            raise ValueError(f"a value goes on at character {end}")
        try:
            if has_surrogate(text[at:end]):
                raise Rejected("no UTF-8")
            rows.append(row(value, fields))
        except Rejected:
            rejects.append(len(text[:at].encode(errors="surrogateescape")))
        return skip(end)

    at = skip(1 if text.startswith("\ufeff") else 0)
    if not text.startswith("[", at):
        while at < len(text):
            at = one(at)
        return rows, rejects
    at = skip(at + 1)
    if not text.startswith("]", at):
        at = one(at)
        while text.startswith(",", at):
            at = one(skip(at + 1))
    if not text.startswith("]", at) or skip(at + 1) != len(text):
        raise ValueError("the array does not end where the body does")
    return rows, rejects


def main():
    form, path, *fields = sys.argv[1:]
    read = {"lines": read_lines, "objects": read_objects}[form]
    with open(path, "rb") as file:
        while head := file.read(4):
            body = file.read(struct.unpack(">I", head)[0])
            try:
                # No JSON text starts like this in UTF-8, and every one does in UTF-16.
                if body[:1] in (b"\0", b"\xfe", b"\xff") or body[1:2] == b"\0":
                    raise ValueError("the body is UTF-16")
                rows, rejects = read(body, fields)
                print(json.dumps({"rows": rows, "rejects": rejects}))
            except ValueError as why:
                print(json.dumps({"refused": str(why)}))


if __name__ == "__main__":
    main()
