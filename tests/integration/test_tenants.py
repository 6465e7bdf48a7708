"""Tenants: config.yaml seeds them, and what was changed in the database since wins over it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta

import asyncpg
import pytest

from storage.database import Database
from storage.hours import Hours
from storage.models import FOR_EVER, Jid, ResumeMode, Tenant, TenantId
from storage.notify import Notify
from storage.tenants import TenantStore
from tests.integration.store_world import NOW, SHOP

LATER = NOW + timedelta(days=1)


@pytest.fixture
async def tenants(db: Database) -> TenantStore:
    return TenantStore(db)


async def by_sql(db: Database, assignment: str) -> None:
    await db.execute(f"UPDATE sidestep.tenants SET {assignment}")  # noqa: S608  our own words


async def test_a_new_tenant_is_as_config_says_with_one_account_of_its_name(tenants: TenantStore) -> None:
    made, overruled = await tenants.seed(SHOP, NOW)
    assert made == replace(SHOP, tenant_id=made.tenant_id)
    assert overruled == ()
    assert [a.name for a in await tenants.accounts(made.tenant_id)] == ["shop"]
    assert await tenants.get(made.tenant_id) == made


async def test_seeding_again_changes_nothing(tenants: TenantStore, db: Database) -> None:
    first, _ = await tenants.seed(SHOP, NOW)
    before = await db.fetchrow("SELECT *, xmin FROM sidestep.tenants")
    again, overruled = await tenants.seed(SHOP, LATER)
    assert (again, overruled) == (first, ())
    assert await db.fetchrow("SELECT *, xmin FROM sidestep.tenants") == before
    assert len(await tenants.accounts(first.tenant_id)) == 1


HOURS = Hours(
    week=(((540, 1080),),) * 5 + ((), ((600, 1500),)),
    holidays={"12-25": (), "2026-12-24": ((540, 720),)},
    away="Closed until {time}.",
    away_again=timedelta(hours=12),
    keywords=True,
)
CHANGES = {
    "owner": "+5511999990009",
    "admins": ("+5511999990007", "+5511999990008"),
    "system_prompt": "Be kind.",
    "llm_provider": "anthropic",
    "auto_resume_after": timedelta(minutes=30),
    "timezone": "America/Sao_Paulo",
    "hours": HOURS,
    "retention": timedelta(days=365),
    "notify": Notify(to="+5511999990007", quiet=(1320, 1860), before_resume=timedelta(minutes=10)),
    "resume_mode": ResumeMode.FROM_LAST,
}


CASES = [*CHANGES.items(), ("auto_resume_after", None), ("admins", ()), ("retention", FOR_EVER)]


@pytest.mark.parametrize(("key", "value"), CASES)
async def test_a_change_in_config_applies_where_the_database_was_not_changed(
    tenants: TenantStore, key: str, value: object
) -> None:
    await tenants.seed(SHOP, NOW)
    wanted = replace(SHOP, **{key: value})  # type: ignore[arg-type]  # the table above names fields and fitting values
    made, overruled = await tenants.seed(wanted, LATER)
    assert made == replace(wanted, tenant_id=made.tenant_id)
    assert overruled == ()


async def test_a_change_in_the_database_wins_over_config_and_is_told(
    tenants: TenantStore, db: Database
) -> None:
    await tenants.seed(SHOP, NOW)
    await by_sql(db, "system_prompt = 'by SQL', auto_resume_after = interval '5 minutes'")
    for prompt in ("", "a new prompt", "a newer prompt"):
        made, overruled = await tenants.seed(replace(SHOP, system_prompt=prompt), LATER)
        assert made.system_prompt == "by SQL"
        assert made.auto_resume_after == timedelta(minutes=5)
        assert overruled == ("system_prompt", "auto_resume_after")


async def test_keys_are_overruled_one_by_one(tenants: TenantStore, db: Database) -> None:
    await tenants.seed(SHOP, NOW)
    await by_sql(db, "system_prompt = 'by SQL'")
    made, overruled = await tenants.seed(replace(SHOP, system_prompt="config", llm_provider="openai"), LATER)
    assert (made.system_prompt, made.llm_provider) == ("by SQL", "openai")
    assert overruled == ("system_prompt",)


async def test_once_both_agree_config_is_followed_again(tenants: TenantStore, db: Database) -> None:
    await tenants.seed(SHOP, NOW)
    await by_sql(db, "system_prompt = 'agreed'")
    _, overruled = await tenants.seed(replace(SHOP, system_prompt="agreed"), LATER)
    assert overruled == ()
    made, overruled = await tenants.seed(replace(SHOP, system_prompt="newer"), LATER)
    assert (made.system_prompt, overruled) == ("newer", ())


async def test_a_change_by_sql_is_seen_at_the_next_look(tenants: TenantStore, db: Database) -> None:
    made, _ = await tenants.seed(SHOP, NOW)
    await by_sql(db, "auto_resume_after = NULL")
    assert (await tenants.get(made.tenant_id)).auto_resume_after is None


async def test_a_tenant_of_before_gets_the_hours_that_config_gives_it(
    tenants: TenantStore, db: Database
) -> None:
    await tenants.seed(SHOP, NOW)
    await by_sql(db, "seed = seed - 'timezone' - 'hours' - 'notify' - 'resume_mode'")
    made, overruled = await tenants.seed(
        replace(SHOP, timezone="Europe/Berlin", hours=HOURS, notify=Notify(resumed=False)), LATER
    )
    assert (made.timezone, made.hours, made.notify.resumed) == ("Europe/Berlin", HOURS, False)
    assert overruled == ()


@pytest.mark.parametrize("hours", ["{}", "[1]", '{"open": {"mon": ["late"]}}', '{"open": {"mon": [9]}}'])
async def test_hours_that_sql_has_written_and_nobody_can_read_close_nothing(
    tenants: TenantStore, db: Database, hours: str
) -> None:
    made, _ = await tenants.seed(replace(SHOP, hours=HOURS), NOW)
    await by_sql(db, f"hours = '{hours}', timezone = 'Nowhere/Land'")
    tenant = await tenants.get(made.tenant_id)
    assert (tenant.hours, tenant.zone) == (None, UTC)


@pytest.mark.parametrize("notify", ["[5]", '{"to": 5511999990007}', '{"to": "Ana"}', '{"quiet": 7}'])
async def test_what_sql_has_written_of_notices_and_nobody_can_read_is_the_default(
    tenants: TenantStore, db: Database, notify: str
) -> None:
    made, _ = await tenants.seed(SHOP, NOW)
    await by_sql(db, f"notify = '{notify}'")
    assert (await tenants.get(made.tenant_id)).notify == Notify()


async def test_nobody_is_no_admin(tenants: TenantStore, db: Database) -> None:
    await tenants.seed(SHOP, NOW)
    with pytest.raises(asyncpg.CheckViolationError):
        await by_sql(db, "admins = '{+5511999990005,NULL}'")


async def test_ten_daemons_that_seed_at_once_make_one_tenant_and_one_account(tenants: TenantStore) -> None:
    made = await asyncio.gather(*(tenants.seed(SHOP, NOW) for _ in range(10)))
    assert len({tenant.tenant_id for tenant, _ in made}) == 1
    assert len(await tenants.accounts(made[0][0].tenant_id)) == 1


async def test_pairing_keeps_the_device_and_a_known_lid(tenants: TenantStore) -> None:
    made, _ = await tenants.seed(SHOP, NOW)
    [account] = await tenants.accounts(made.tenant_id)
    await tenants.set_paired(account, Jid("5511999990000:7@s.whatsapp.net"), Jid("9@lid"), NOW)
    await tenants.set_paired(account, Jid("5511999990000:8@s.whatsapp.net"), None, LATER)
    [account] = await tenants.accounts(made.tenant_id)
    assert (account.jid, account.lid) == ("5511999990000:8@s.whatsapp.net", "9@lid")


async def test_a_tenant_that_is_not_there_is_a_lookup_error(tenants: TenantStore) -> None:
    with pytest.raises(LookupError):
        await tenants.get(TenantId(77))


def test_the_seed_of_these_tests_differs_from_every_change() -> None:
    assert all(getattr(SHOP, key) != value for key, value in CHANGES.items())
    assert isinstance(SHOP, Tenant)
