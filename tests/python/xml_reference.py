#!/usr/bin/env python3
"""What a parser by somebody else makes of XML documents: Python's expat, in the standard library.

Reads documents, each after its length as four bytes, from a file. Prints one JSON document a line:
`{"rows": [[text or null, ...]], "rejects": [reason]}`, or `{"refused": why}`. What api2bq asks beyond
well-formedness is spelled out here once more, independently: see the `Refused` and `spoil` lines.
Namespaces are not looked into: names are compared without their prefix, and a prefix need not be declared.
"""

import json
import re
import struct
import sys
from xml.parsers import expat


TAG = re.compile(r"""<[^'">]*(?:"[^"]*"[^'">]*|'[^']*'[^'">]*)*>""")
ENTITY = re.compile("&([^#;][^;]*);")
DEFINED = {"amp", "lt", "gt", "quot", "apos"}


class Refused(Exception):
    pass


class Reader:
    """The rows of one document with `<records><record>` and `fields` as columns, all of them optional text."""

    def __init__(self, fields):
        self.fields = fields
        self.parser = None
        self.depth = 0
        self.record = None  # the values of the record that is open
        self.field = None
        self.reason = None
        self.others = 0
        self.rows = []
        self.rejects = []

    def spoil(self, reason, field=None):
        self.reason = self.reason or (reason if field is None else f"{reason}:c{field}")

    def start(self, name, _attributes):
        local = name.partition(":")[2] or name
        if self.depth == 0 and local != "records":
            raise Refused(f"the root element is {local}")
        if self.record is not None:
            if self.depth == 2:
                self.field = self.fields.index(local) if local in self.fields else None
                if self.field is not None:
                    if self.record[self.field] is not None:
                        self.spoil("duplicate_field", self.field)
                    self.record[self.field] = ""
            elif self.field is not None:
                self.spoil("nested_element", self.field)
        elif self.depth == 1 and local == "record":
            self.record, self.field, self.reason = [None] * len(self.fields), None, None
        elif self.depth > 0:
            self.others += 1
        self.depth += 1
        if self.undefined_in_attributes():
            if self.record is None:
                raise Refused("an undefined entity outside of a record")
            self.spoil("undefined_entity")

    def undefined_in_attributes(self):
        """Where there is a DTD that is not fetched, expat leaves these out and says nothing."""
        tag = TAG.match(self.parser.GetInputContext().decode(errors="replace"))
        return tag is not None and any(name not in DEFINED for name in ENTITY.findall(tag.group()))

    def end(self, _name):
        self.depth -= 1
        if self.record is not None and self.depth == 2:
            self.field = None
        if self.record is not None and self.depth == 1:
            if self.reason is None:
                self.rows.append(self.record)
            else:
                self.rejects.append(self.reason)
            self.record = None

    def text(self, data):
        if self.field is not None:
            self.record[self.field] += data

    def skipped_entity(self, _name, _is_parameter):
        # Not declared, but an external DTD that nobody fetches might do so.
        if self.record is None:
            raise Refused("an undefined entity outside of a record")
        self.spoil("undefined_entity", self.field)

    def declaration(self, version, _encoding, _standalone):
        # expat takes any text for a version.
        if not re.fullmatch("1\\.[0-9]+", version):
            raise Refused("a version of XML that there is not")

    def doctype(self, _name, _system, _public, has_internal_subset):
        if has_internal_subset:
            raise Refused("a DOCTYPE with definitions of its own")

    def read(self, document):
        # A byte order mark says more than the declaration, whatever that names.
        parser = self.parser = expat.ParserCreate("UTF-8" if document.startswith(b"\xef\xbb\xbf") else None)
        parser.XmlDeclHandler = self.declaration
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text
        parser.SkippedEntityHandler = self.skipped_entity
        parser.StartDoctypeDeclHandler = self.doctype
        parser.Parse(document, True)
        if self.others and not self.rows and not self.rejects:
            raise Refused("elements, but no record among them")


def main():
    path, *fields = sys.argv[1:]
    with open(path, "rb") as file:
        while head := file.read(4):
            document = file.read(struct.unpack(">I", head)[0])
            reader = Reader(fields)
            try:
                reader.read(document)
                print(json.dumps({"rows": reader.rows, "rejects": reader.rejects}))
            except (Refused, expat.ExpatError, LookupError, ValueError) as why:
                print(json.dumps({"refused": str(why)}))


if __name__ == "__main__":
    main()
