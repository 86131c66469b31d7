"""Checks an OpenAPI document by the schema of the specification, and its schemas by what they should tell apart."""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

with open(sys.argv[1]) as file:
    document = json.load(file)
validate(document, cls=OpenAPIV31SpecValidator)

row = Draft202012Validator(document["components"]["schemas"]["Row"])
for example in document["components"]["schemas"]["Row"]["examples"]:
    row.validate(example)
assert not row.is_valid({"WH_ID": ["a"]}) and not row.is_valid({})

# A validator that lets everything pass would say so here.
del document["paths"]["/v1/inventory"]["post"]["responses"]["200"]["description"]
try:
    validate(document, cls=OpenAPIV31SpecValidator)
except OpenAPIValidationError:
    print(f"valid OpenAPI {document['openapi']}, its example a Row, a broken one not")
