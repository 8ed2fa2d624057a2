"""How limits are written."""

import pytest

from recollect_server.admin.limits import AllLimits, Limit, Limits, Rate, TenantLimits


def test_limits_are_written_as_names_and_numbers():
    limits = Limits.parse("requests=50/s, messages = 1000/min,tokens=5/day,stored_facts=7")
    assert limits.rates == {
        Limit.REQUESTS: Rate(50, 1.0),
        Limit.MESSAGES: Rate(1000, 60.0),
        Limit.TOKENS: Rate(5, 86_400.0),
    }
    assert limits.stored == {Limit.STORED_FACTS: 7}
    assert Rate(50, 1.0).each == 0.02
    assert Limits.parse("") == Limits()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("request=5/s", "'request' is not a limit: there are requests, messages"),
        ("requests", "'' is not a rate"),
        ("requests=5", "as in 50/s, with s, min, h, day"),
        ("requests=5/week", "is not a rate"),
        ("requests=0/s", "at least 1"),
        ("requests=1000001/s", "at most 1000000/s"),
        ("requests=-1/s", "is not a rate"),
        ("stored_facts=5/s", "must be a number from 1"),
        ("stored_facts=0", "must be a number from 1"),
        ("requests=5/s,requests=6/s", "requests is given twice"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_would_be_right(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        Limits.parse(text)


def test_a_tenants_own_limits_replace_those_of_all():
    limits = AllLimits.parse(
        'tenant_limits = "requests=5/s"\nuser_limits = "stored_facts=7"\n'
        '[tenants.big]\ntenant_limits = "requests=500/s"\n[tenants."of all"]\nuser_limits = ""\n'
    )
    five, seven = Limits.parse("requests=5/s"), Limits.parse("stored_facts=7")
    assert limits.of("any") == TenantLimits(five, seven)
    assert limits.of("big") == TenantLimits(Limits.parse("requests=500/s"), seven)
    assert limits.of("of all") == TenantLimits(five, Limits())
    assert AllLimits.parse("").of("any") == TenantLimits()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("tenant_limits = ", "Invalid value"),
        ('users = ""', "^users is not known: there are tenant_limits, user_limits"),
        ("user_limits = 5", '^user_limits must be a text, as in "requests=50/s"'),
        ('user_limits = "speed=5/s"', "^user_limits: 'speed' is not a limit"),
        ('tenants = ""', "^tenants must be tables"),
        ("tenants.acme = 5", "^tenants.acme must be a table with tenant_limits, user_limits"),
        ('[tenants.acme]\nlimits = ""', "^tenants.acme.limits is not known"),
        ('[tenants.acme]\nuser_limits = "requests=5"', "^tenants.acme.user_limits: '5' is not"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        AllLimits.parse(text)
