"""Roles: who may command, by number, and by LID once an event has named both."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.roles import Roles, phone_jid
from storage.models import Address, Jid, Role, Tenant, TenantId

TENANT = Tenant(
    tenant_id=TenantId(1),
    instance_name="shop",
    owner="+5511999990000",
    admins=("+5511999990001", "+5511999990002"),
    auto_resume_after=timedelta(hours=2),
)
ADMIN, SECOND = phone_jid("+5511999990001"), phone_jid("+5511999990002")
ADMIN_LID, OTHER_LID = Jid("1@lid"), Jid("2@lid")
CUSTOMER = Jid("5511988880001@s.whatsapp.net")


@pytest.fixture
def roles() -> Roles:
    return Roles(TENANT)


@pytest.mark.parametrize("number", ["+5511999990001", "5511999990001"])
def test_a_number_is_an_address_with_or_without_its_plus(number: str) -> None:
    assert phone_jid(number) == "5511999990001@s.whatsapp.net"


def test_who_writes_from_the_account_s_own_devices_is_the_owner(roles: Roles) -> None:
    assert roles.of((), from_me=True) is Role.OWNER
    assert roles.of((CUSTOMER,), from_me=True) is Role.OWNER


def test_the_owner_s_number_alone_proves_nothing(roles: Roles) -> None:
    assert roles.of((roles.owner,), from_me=False) is Role.CUSTOMER


def test_admins_are_known_by_number_and_all_others_are_customers(roles: Roles) -> None:
    assert [roles.of((j,), from_me=False) for j in (ADMIN, SECOND, CUSTOMER)] == [
        Role.ADMIN,
        Role.ADMIN,
        Role.CUSTOMER,
    ]
    assert roles.of((), from_me=False) is Role.CUSTOMER


@pytest.mark.parametrize(
    "address",
    [Address(jid=ADMIN, alt=ADMIN_LID), Address(jid=ADMIN_LID, alt=ADMIN)],
    ids=["phone first", "LID first"],
)
def test_an_admin_s_lid_is_enough_once_an_event_has_named_both(roles: Roles, address: Address) -> None:
    assert not roles.is_admin((ADMIN_LID,))
    roles.learn(address)
    assert roles.is_admin((ADMIN_LID,))
    assert not roles.is_admin((OTHER_LID,))


def test_nothing_is_learned_from_a_customer_or_from_half_an_address(roles: Roles) -> None:
    roles.learn(Address(jid=CUSTOMER, alt=OTHER_LID))
    roles.learn(Address(jid=ADMIN))
    assert not roles.is_admin((OTHER_LID,))


def test_a_former_admin_s_lid_is_forgotten(roles: Roles) -> None:
    roles.learn(Address(jid=ADMIN, alt=ADMIN_LID))
    roles.update(replace(TENANT, admins=("+5511999990002",)))
    assert not roles.is_admin((ADMIN,))
    assert not roles.is_admin((ADMIN_LID,))
    assert roles.is_admin((SECOND,))


def test_an_admin_who_stays_keeps_their_lid_when_another_comes(roles: Roles) -> None:
    roles.learn(Address(jid=ADMIN, alt=ADMIN_LID))
    roles.update(replace(TENANT, admins=(*TENANT.admins, "+5511999990003")))
    assert roles.is_admin((ADMIN_LID,))


def test_a_lid_that_was_seen_before_its_number_became_an_admin_counts(roles: Roles) -> None:
    roles.update(replace(TENANT, admins=()))
    assert not roles.is_admin((ADMIN,))
    roles.update(TENANT)
    roles.learn(Address(jid=ADMIN, alt=ADMIN_LID))
    assert roles.is_admin((ADMIN_LID,))


def test_a_change_of_the_owner_is_followed(roles: Roles) -> None:
    roles.update(replace(TENANT, owner="+5511999990009"))
    assert roles.owner == phone_jid("+5511999990009")


def test_the_owner_is_whoever_holds_the_linked_number_not_whom_the_configuration_names() -> None:
    roles = Roles(replace(TENANT, owner="+5511999990000"))
    assert roles.owner == "5511999990000@s.whatsapp.net"
    linked = (Jid("5511777770000@s.whatsapp.net"), Jid("123@lid"))
    assert not roles.link(linked)
    assert roles.owner == linked[0]
    assert roles.is_own((linked[1],))
    assert not roles.is_own((Jid("5511999990000@s.whatsapp.net"),))
    roles.update(replace(TENANT, owner="+5511999990000"))
    assert roles.owner == linked[0]
