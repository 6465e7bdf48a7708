"""What the bot says by itself, in the language of the shop: no customer reads a word that its owner has not chosen."""

from __future__ import annotations

from storage.models import Action
from tests.acceptance.conversation import CONFIG, IDLE, Shop, customer
from tests.acceptance.invariants import assert_all_is_well
from tests.acceptance.test_hours import next_wall, until

AT_NIGHT = "+5511988880002"
HOURS = """\
    timezone: Europe/Berlin
    hours: {open: {mon-sun: 9:00-18:00}, away: "Abrimos às {time}."}
"""
TEXTS = """\
  texts:
    person: "Já vem alguém."
    person_closed: "Alguém responde aqui a partir das {time}."
    goodbye: "Até logo! /start"
    welcome: "Olá!"
    welcome_back: "Que bom ter você de volta!"
    help: "/human: uma pessoa\\n/stop: silêncio"
    help_in_group: "Mencione-me."
"""


async def test_all_commands_of_customers_are_answered_in_the_owner_s_words(shop: Shop) -> None:
    timed = CONFIG.replace("    auto_resume_after: 2h\n", f"    auto_resume_after: 2h\n{HOURS}")
    shop.configure(timed + TEXTS)
    asked = ("/help", "/start", "/stop", "/start", "/human")
    group = {"group": "120363000000000001", "sender": "+5511988880003"}
    heard = await shop.chat(
        until(next_wall("12:00")),
        *(line for text in asked for line in (customer(text), IDLE)),
        *(customer("/help", mention=True, id="group", **group), IDLE),
        *(until(next_wall("20:00")), customer("/human", chat=AT_NIGHT, id="night"), IDLE),
    )
    assert heard.said_to() == [
        "/human: uma pessoa\n/stop: silêncio",
        *("Olá!", "Até logo! /start", "Que bom ter você de volta!", "Já vem alguém."),
    ]
    assert heard.said_to(group["group"]) == ["Mencione-me."]
    assert heard.said_to(AT_NIGHT) == ["Alguém responde aqui a partir das 09:00."]
    assert heard.decided("night") == [Action.HANDED_OFF]
    await assert_all_is_well(shop.dsn)


async def test_check_refuses_words_with_a_gap_that_nothing_fills(shop: Shop) -> None:
    gap = 'hours: {open: {mon: 9:00-18:00}, away: "Abrimos às {hour}."}'
    shop.configure(CONFIG.replace("auto_resume_after: 2h", gap))
    told = await shop.run("check", DATABASE_URL=shop.dsn)
    assert told.code == 2
    assert (
        "tenants[0].hours.away: has {hour}, which nothing fills in (known here: {time} and {date})"
        in told.err
    )
