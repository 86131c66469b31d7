"""The script of the second reference case: rows of stock, one request each, by `requests`.

Of the original only what it sends is known here, not its text: WH1 to WH7, five item names, ids from 100 to
110, quantities from 1000 to 5000, by POST with Basic auth. URL and user come as arguments, as the issue has it.
"""

import json
import random
import sys

import requests

URL, USER, PASSWORD, COUNT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
HEADERS = {"Content-Type": "application/json"}
ITEMS = ["Keyboard", "Mouse", "Monitor", "Printer", "Router"]

random.seed(1)
for _ in range(COUNT):
    available, requested = random.randint(1000, 5000), random.randint(1000, 5000)
    payload = {
        "WH_ID": f"WH{random.randint(1, 7)}",
        "Item_Name": random.choice(ITEMS),
        "Item_id": random.randint(100, 110),
        "Quantity_Available": available,
        "Quantity_Requested": requested,
        "Backlog": "Yes" if requested > available else "No",
    }
    answer = requests.post(URL, data=json.dumps(payload), headers=HEADERS, auth=(USER, PASSWORD), timeout=30)
    print(answer.status_code, answer.text)
    answer.raise_for_status()

# As it was pasted from a page into a shell: with the quotes of a word processor.
sample = '{\n  "WH_ID": “WH1”,\n  "Item_id": 101\n}'
answer = requests.post(URL, data=sample.encode(), headers=HEADERS, auth=(USER, PASSWORD), timeout=30)
print(answer.status_code, answer.text)
