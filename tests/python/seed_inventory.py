"""The script of the second reference case, told anew: rows of stock, one request each, by `requests`.

The original is in Part2.md of github.com/GaryHostt/BigQueryIntegration, and no licence is with it: it is not here. The
same are: its values, the number in Backlog (a STRING), its headers (one of which is none of HTTP's), the body given
to `requests` as a text, and the payload with a curly quote by which its endpoint is made. Not the same: URL, user
and number of rows are arguments, nothing sleeps, and what is answered is printed.
"""

import base64
import json
import random
import sys

import requests

URL, USER, PASSWORD, COUNT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
ITEMS = [
    "Mechanically Separated",
    "Shelf-Stable, Pathogen Negative Meat Slurry",
    "Poultry Fat",
    "Chicken Meal",
    "Whole Ground",
]
HEADERS = {
    "Content-Type": "application/json",
    "Content-Transfer-Encoding": "buffered",
    # As Postman shows it.
    "Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
}


def post(body):
    answer = requests.request("POST", URL, data=body, headers=HEADERS, timeout=30)
    print(answer.status_code, answer.text)
    return answer


random.seed(1)
for _ in range(COUNT):
    row = {
        "WH_ID": f"WH{random.randint(1, 7)}",
        "Item_Name": random.choice(ITEMS),
        "Item_id": random.randint(100, 110),
    }
    row |= {name: random.randint(1000, 5000) for name in ["Quantity_Available", "Quantity_Requested", "Backlog"]}
    post(json.dumps(row)).raise_for_status()

sample = '{"WH_ID":"","Item_Name":"","Item_id":2,"Quantity_Available":2,"Quantity_Requested":2,"Backlog":”"}'
post(sample.encode())
