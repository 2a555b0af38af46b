"""Scheduled changes of the limits that autoscaling keeps to, and what AWS accepts as a schedule."""

import re
import zoneinfo
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NotRequired, TypedDict

import pulumi

from sixways.checks import Checks

_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
# Field of a cron expression, its least and greatest number, and the names that stand for numbers.
_CRON: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minutes", 0, 59, []),
    ("hours", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 1, 7, _DAYS),
    ("year", 1970, 2199, []),
)
_RATE = re.compile(r"[1-9][0-9]* (minutes?|hours?|days?)")
_NAME = re.compile(
    r"[^\x00-\x1f\x7f-\x9f:/| ](?:[^\x00-\x1f\x7f-\x9f:/|]*[^\x00-\x1f\x7f-\x9f:/| ])?"
)


class SageMakerScheduleArgs(TypedDict):
    """New limits from a time on: more before the shop opens, fewer at night.

    The limits stay until another schedule changes them; so schedules come in pairs.
    """

    name: str
    """Unique among the schedules of the variant; at most 256 characters, none of `:/|`."""
    schedule: pulumi.Input[str]
    """`cron(0 7 ? * MON-FRI *)`, `at(2030-01-31T08:00:00)` or `rate(2 hours)`."""
    timezone: NotRequired[pulumi.Input[str]]
    """IANA time zone of `cron` and `at` (`Europe/Berlin`). Default: UTC."""
    min_instances: NotRequired[pulumi.Input[int]]
    """The new lower limit; one of the two limits is needed."""
    max_instances: NotRequired[pulumi.Input[int]]
    """The new upper limit."""
    start_time: NotRequired[pulumi.Input[str]]
    """When a recurring schedule begins (`2030-01-01T00:00:00Z`). Default: at once."""
    end_time: NotRequired[pulumi.Input[str]]
    """When a recurring schedule ends. Default: never."""


def check_schedules(
    checks: Checks, schedules: object, prefix: str, *, least: int, most: int, fix: str = ""
) -> None:
    """What Application Auto Scaling would refuse, as far as plain rules tell.

    Limits of names and forms: botocore's model of PutScheduledAction.

    Args:
        checks: takes the problems.
        schedules: the list as the user gave it.
        prefix: names it in messages: `scaling.schedules`.
        least: the least that a limit may be.
        most: the most that a limit may be.
        fix: what helps where a limit is too small.
    """
    if schedules is None or isinstance(schedules, pulumi.Output):
        return
    if not isinstance(schedules, Sequence) or isinstance(schedules, str):
        checks.add(prefix, schedules, "a list of schedules")
        return
    seen: set[str] = set()
    for number, schedule in enumerate(schedules):
        where = f"{prefix}[{number}]."
        checks.known(schedule, SageMakerScheduleArgs, where)
        checks.required(schedule, "name", "schedule", prefix=where)
        _check_name(checks, schedule.get("name"), f"{where}name", seen)
        _check_limits(checks, schedule, where, least, most, fix)
        expression = schedule.get("schedule")
        if isinstance(expression, str) and expression:
            wrong = why_no_schedule(expression)
            if wrong:
                checks.add(f"{where}schedule", expression, wrong)
        timezone = schedule.get("timezone")
        if isinstance(timezone, str) and _timezones() and timezone not in _timezones():
            checks.add(f"{where}timezone", timezone, "an IANA time zone", "Europe/Berlin, say")
        _check_times(checks, schedule, where)


def _check_name(checks: Checks, name: object, field: str, seen: set[str]) -> None:
    if not isinstance(name, str) or not name:
        return
    if len(name) > 256 or not _NAME.fullmatch(name):
        accepted = "1 to 256 characters, none of `:/|`, no space at either end"
        checks.add(field, name, accepted)
    if name in seen:
        checks.add(field, name, "a name that no other schedule has", "rename one of them")
    seen.add(name)


def _check_limits(
    checks: Checks, schedule: Any, where: str, least: int, most: int, fix: str
) -> None:
    low, high = schedule.get("min_instances"), schedule.get("max_instances")
    if low is None and high is None:
        accepted = "min_instances, max_instances or both"
        checks.add(where.removesuffix("."), None, accepted, "add the limit that changes")
    checks.number(f"{where}min_instances", low, least, most, whole=True, fix=fix)
    checks.number(f"{where}max_instances", high, max(least, 1), most, whole=True)
    if isinstance(low, int) and isinstance(high, int) and low > high:
        checks.add(f"{where}min_instances", low, f"at most max_instances, {high}")


def _check_times(checks: Checks, schedule: Any, where: str) -> None:
    times = {}
    for field in ("start_time", "end_time"):
        value = schedule.get(field)
        if not isinstance(value, str):
            continue
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            time = datetime.min
        if time.tzinfo is None:
            checks.add(f"{where}{field}", value, "a time with its zone", "2030-01-31T08:00:00Z")
        else:
            times[field] = time
    if len(times) == 2 and times["end_time"] <= times["start_time"]:
        checks.add(f"{where}end_time", schedule["end_time"], "a time after start_time")


def why_no_schedule(expression: str) -> str | None:
    """What is accepted instead, where the expression is none that AWS takes; else None."""
    kind, _, rest = expression.partition("(")
    inside = rest.removesuffix(")")
    if kind not in ("cron", "at", "rate") or not rest.endswith(")"):
        return "cron(...), at(...) or rate(...)"
    if kind == "rate":
        return None if _RATE.fullmatch(inside) else "rate(VALUE minutes|hours|days)"
    if kind == "at":
        try:
            datetime.strptime(inside, "%Y-%m-%dT%H:%M:%S")
        except ValueError:
            return "at(yyyy-mm-ddThh:mm:ss)"
        return None
    fields = inside.split()
    if len(fields) != len(_CRON):
        return "cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR), six fields"
    for text, (name, least, most, names) in zip(fields, _CRON, strict=True):
        if not _is_cron_field(text, least, most, names, wild="day" in name):
            return f"a cron field for {name} from {least} to {most}, not {text}"
    if (fields[2] == "?") == (fields[4] == "?"):
        return "cron with ? for either the day of the month or the day of the week"
    return None


def _is_cron_field(text: str, least: int, most: int, names: list[str], *, wild: bool) -> bool:
    if text in ("*", "?"):
        return text == "*" or wild
    return all(_is_cron_part(part, least, most, names, wild=wild) for part in text.split(","))


def _is_cron_part(part: str, least: int, most: int, names: list[str], *, wild: bool) -> bool:
    if wild and re.fullmatch(r"L|LW|[1-9][0-9]?W|[1-7A-Z]+L|[1-7]#[1-5]", part):
        return True
    base, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return False
    ends = [] if base == "*" else base.split("-")
    numbers = [_cron_number(end, names) for end in ends]
    return len(ends) <= 2 and all(least <= number <= most for number in numbers)


def _cron_number(text: str, names: list[str]) -> int:
    if text.upper() in names:
        return names.index(text.upper()) + 1
    return int(text) if text.isdigit() else -1


@cache
def _timezones() -> frozenset[str]:
    """The zones known on this machine; empty where it has no such data."""
    return frozenset(zoneinfo.available_timezones())
