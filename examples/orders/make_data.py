#!/usr/bin/env python3
"""Writes two days of a web shop's orders as JSON Lines, with bad rows among them, and planted.json, which says which.

Nobody and nothing in them is real. The output depends on SEED alone: a second run writes the same bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

HERE = Path(__file__).resolve().parent
SEED = 20250301
DAYS = ("2025-03-01", "2025-03-02")
ROWS = 500

Order = dict[str, Any]

GIVEN = ["Ada", "Björn", "Chloé", "Dmitri", "Eve", "Fatou", "Grace", "Håkon", "İnci", "João", "Kwame", "Łucja", "Mei", "Noor", "Øyvind"]
FAMILY = ["Abe", "Brontë", "Cruz", "D'Arcy", "Eriksen", "Făt", "García", "Hsu", "Ito", "Jäger", "Kim", "Löfgren", "Moreau", "Núñez"]
STREETS = ["Main St", "Rue de l'Église", "Hauptstraße", "Calle Mayor", "Storgata", "Via Roma", "Kerkstraat"]
TOWNS = [("Leeds", "LS1 4AP", "GB"), ("Lyon", "69002", "FR"), ("Köln", "50667", "DE"), ("Cádiz", "11001", "ES"), ("Tromsø", "9008", "NO")]
# In cents. What has most digits is at the edge of what a float still tells apart.
ARTICLES = {
    "TEA-0001": 475, "TEA-0017": 1290, "CUP-0003": 810, "CUP-0420": 1999, "POT-1000": 10, "POT-1001": 8999, "GIN-0099": 3333, "ART-0001": 123456789099,
}  # fmt: skip


def euros(cents: int) -> float:
    """The nearest double, which prints as the very decimal: sums are made of cents."""
    return cents / 100


def moment(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def order(dice: random.Random, at: datetime) -> Order:
    given, family = dice.choice(GIVEN), dice.choice(FAMILY)
    number = dice.randrange(1, 400)
    lines, total = [], 0
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3))):
        sku = dice.choice(list(ARTICLES)[:-1]) if dice.random() < 0.99 else "ART-0001"
        quantity, price = (dice.randrange(1, 6), ARTICLES[sku]) if sku != "ART-0001" else (1, ARTICLES[sku])
        line: dict[str, Any] = {"sku": sku, "quantity": quantity, "price": euros(price)}
        total += quantity * price
        if dice.random() < 0.2:
            discount = quantity * price // 10
            line["discount"] = euros(discount)
            total -= discount
        lines.append(line)
    address = None
    if dice.random() < 0.8:
        city, code, country = dice.choice(TOWNS)
        address = {"street": f"{dice.choice(STREETS)} {dice.randrange(1, 200)}", "city": city, "postal_code": code, "country": country}
    status = dice.choice(("placed", "placed", "shipped", "shipped", "cancelled"))
    made: Order = {
        "id": str(UUID(int=dice.getrandbits(128), version=4)),
        "placed_at": moment(at),
        "customer": {"id": number, "name": f"{given} {family}", "email": f"customer-{number}@example.com"},
        "lines": lines,
        "shipping_address": address,
        "status": status,
    }
    # Null and absent are the same in the table: some say the one, some the other.
    if status == "shipped":
        made["shipped_at"] = moment(at + timedelta(hours=dice.randrange(2, 30)))
    elif status == "cancelled":
        made["shipped_at"] = None
    made["total"] = euros(total)
    return made


Change = Callable[[Order], "Order | str"]


def edit(**values: Any) -> Change:
    return lambda made: {**made, **values}


def edit_line(**values: Any) -> Change:
    return lambda made: {**made, "lines": [{**made["lines"][0], **values}, *made["lines"][1:]]}


def edit_inside(name: str, **values: Any) -> Change:
    return lambda made: {**made, name: {**made[name], **values}}


def unshipped(made: Order) -> Order:
    return {key: value for key, value in {**made, "status": "shipped"}.items() if key != "shipped_at"}


# Of each day: the column, the JSON pointer and the rule that breaks, and the deed that breaks it.
BROKEN: dict[str, list[tuple[str | None, str, str, Change]]] = {
    DAYS[0]: [
        ("customer", "/customer/email", "format", edit_inside("customer", email="mallory at secret.example")),
        ("shipped_at", "/shipped_at", "required", unshipped),
        ("lines", "/lines/0/price", "logicalType", edit_line(price=4.755)),
        ("lines", "/lines/0/quantity", "minimum", edit_line(quantity=0)),
        ("status", "/status", "enum", edit(status="lost")),
        (None, "", "json", lambda made: json.dumps(made, ensure_ascii=False)[:-40]),
    ],
    DAYS[1]: [
        ("id", "/id", "format", edit(id="order-1")),
        ("placed_at", "/placed_at", "format", edit(placed_at="2025-03-02T10:00:00")),
        ("shipped_at", "/shipped_at", "type", lambda made: {**unshipped(made), "shipped_at": None}),
        ("lines", "/lines", "minItems", edit(lines=[])),
        ("lines", "/lines/0/sku", "pattern", edit_line(sku="tea")),
        ("total", "/total", "type", edit(total="12.50")),
        ("shipping_address", "/shipping_address/city", "required", edit(shipping_address={"street": "Main St 1", "postal_code": "1", "country": "GB"})),
    ],
}  # fmt: skip


def write_day(day: str) -> list[dict[str, Any]]:
    """Writes one file; answers with what was planted in it. Row 1 is the first line."""
    dice = random.Random(f"{SEED} {day}")
    midnight = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
    seconds = sorted(dice.sample(range(86_400_000), ROWS))
    rows: list[Order | str] = [order(dice, midnight + timedelta(milliseconds=at)) for at in seconds]
    planted = []
    breaks = BROKEN[day]
    for place, (column, pointer, rule, change) in zip(sorted(dice.sample(range(ROWS), len(breaks))), breaks, strict=True):
        made = rows[place]
        assert isinstance(made, dict)
        rows[place] = change(made)
        planted.append({"file": f"{day}.jsonl", "row": place + 1, "column": column, "pointer": pointer, "rule": rule})
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]
    (HERE / f"{day}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return planted


def main() -> None:
    planted = [entry for day in DAYS for entry in write_day(day)]
    (HERE / "planted.json").write_text(json.dumps(planted, indent=2) + "\n")


if __name__ == "__main__":
    main()
