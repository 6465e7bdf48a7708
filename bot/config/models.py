"""The shape of the configuration and its defaults, frozen; what each key does is told in config.yaml."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from bot.config.values import (
    DatabaseUrl,
    Duration,
    DurationOrNever,
    Holidays,
    IgnoredTexts,
    ModelUrl,
    Name,
    PhoneNumber,
    Phrases,
    PositiveDuration,
    ProxyUrl,
    Retention,
    S3Url,
    Said,
    SaidWhenClosed,
    Secret,
    ShareOrNever,
    Size,
    SpanOrNever,
    Text,
    Timezone,
    Week,
)
from flows.texts import Texts as OwnWords
from storage.hours import DAYS, DEFAULT_AWAY
from storage.hours import Hours as BusinessHours
from storage.notify import Notify as OwnerNotify

_NIGHT = (22 * 60, 31 * 60)


class Section(BaseModel):
    """What all sections share: nothing unknown, nothing mutable, no input quoted in an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, coerce_numbers_to_str=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_empty_section(cls, value: Any) -> Any:
        # `http:` with every key commented out is null to YAML and "the defaults" to its writer.
        return {} if value is None else value


class Hours(Section):
    """When somebody is there, and what is said when nobody is."""

    open: Week
    holidays: Holidays = {}
    away: SaidWhenClosed = DEFAULT_AWAY
    away_again: DurationOrNever = None
    keywords: bool = False

    def as_hours(self) -> BusinessHours:
        """The same, as the daemon reckons with it."""
        return BusinessHours(
            week=tuple(self.open.get(day, ()) for day in DAYS),
            holidays=self.holidays,
            away=self.away,
            away_again=self.away_again,
            keywords=self.keywords,
        )


class Notify(Section):
    """What the owner is told unasked, where and when."""

    to: PhoneNumber | None = Field(None, repr=False)
    quiet: SpanOrNever | None = None
    waiting_after: DurationOrNever = timedelta(minutes=15)
    before_resume: DurationOrNever = None
    resumed: bool = True
    trouble_after: DurationOrNever = timedelta(minutes=5)
    failed_share: ShareOrNever = 0.2

    def as_notify(self) -> OwnerNotify:
        """The same, as the daemon goes by it. A chat with oneself rings no phone: it has no night by default."""
        night = _NIGHT if self.to else None
        return OwnerNotify(
            to=self.to,
            quiet=self.quiet if "quiet" in self.model_fields_set else night,
            waiting_after=self.waiting_after,
            before_resume=self.before_resume,
            resumed=self.resumed,
            trouble_after=self.trouble_after,
            failed_share=self.failed_share,
        )


class Tenant(Section):
    """One business; it seeds the database's row and never overwrites a later change there."""

    instance_name: Name
    owner: PhoneNumber = Field(repr=False)
    admins: tuple[PhoneNumber, ...] = Field((), repr=False)
    system_prompt: str = Field("", repr=False)
    llm_provider: Literal["none", "anthropic", "openai"] = "none"
    auto_resume_after: DurationOrNever = timedelta(hours=2)
    timezone: Timezone = "UTC"
    hours: Hours | None = None
    retention: Retention = None
    notify: Notify = Notify()
    resume_mode: Literal["from_last", "from_now"] | None = None

    @field_validator("admins")
    @classmethod
    def _refuse_repeats(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for at, value in enumerate(values):
            if value in values[:at]:
                raise ValueError(f"names the same one twice: items {values.index(value)} and {at}")
        return values


class Keyword(Section):
    """An answer to any message that holds one of these words."""

    match: Phrases
    answer: Text


class Texts(Section):
    """The bot's own words to customers."""

    person: Said = OwnWords().person
    person_closed: SaidWhenClosed = OwnWords().person_closed
    goodbye: Said = OwnWords().goodbye
    welcome: Said = OwnWords().welcome
    welcome_back: Said = OwnWords().welcome_back
    help: Said = OwnWords().help
    help_in_group: Said = OwnWords().help_in_group

    def as_texts(self) -> OwnWords:
        """The same, as the flows say it."""
        return OwnWords(**self.model_dump())


class Flows(Section):
    """What the bot says by itself. An empty default is silence."""

    keywords: tuple[Keyword, ...] = ()
    default: str = "Thank you for your message! We will get back to you as soon as we can."
    texts: Texts = Texts()


class Answer(Section):
    """Which messages get an answer at all."""

    max_age: DurationOrNever = timedelta(hours=6)
    groups: Literal["mention", "never"] = "mention"
    loop_rounds: int | None = Field(8, ge=2)
    loop_within: PositiveDuration = timedelta(seconds=4)
    loop_repeats: int | None = Field(5, ge=2)
    loop_pause: PositiveDuration = timedelta(hours=1)
    same_answer: DurationOrNever = timedelta(minutes=1)


class Takeover(Section):
    """When the bot steps aside."""

    groups: bool = False
    revoke_commands: bool = True
    ignore: IgnoredTexts = ()
    learn_automatic: bool = True


class Rate(Section):
    """So many at once, then one in each such time."""

    burst: int = Field(ge=1)
    every: PositiveDuration


class Pace(Section):
    """How fast the bot reads and writes."""

    debounce: Duration = timedelta(seconds=2)
    max_debounce: Annotated[Duration, Field(validate_default=True)] = timedelta(seconds=10)
    typing: bool = True
    chars_per_second: float = Field(25.0, gt=0, le=10_000)
    max_typing: Duration = timedelta(seconds=8)
    per_chat: Rate | None = Rate(burst=20, every=timedelta(seconds=3))
    per_account: Rate | None = Rate(burst=200, every=timedelta(seconds=1))
    daily: int | None = Field(1000, ge=1)
    first_day: int | None = Field(200, ge=1)

    @field_validator("max_debounce")
    @classmethod
    def _hold_debounce(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value < info.data.get("debounce", value):
            raise ValueError("should be at least as long as pace.debounce")
        return value


class Whatsapp(Section):
    """How WhatsApp is reached."""

    proxy: ProxyUrl | None = None
    history: Literal["recent", "full", "none"] = "recent"


class Ai(Section):
    """The language model, for tenants whose llm_provider is not none."""

    model: Text | None = None
    base_url: ModelUrl | None = None
    api: Literal["auto", "responses", "chat"] = "auto"
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    deadline: PositiveDuration = timedelta(seconds=45)
    max_tokens: int = Field(4096, ge=1)
    history: int = Field(20, ge=1, le=500)
    hand_off: bool | None = None
    fallback: Literal["default", "silence"] = "default"
    anthropic_api_key: Secret | None = None
    openai_api_key: Secret | None = None

    def api_key(self, provider: str) -> SecretStr | None:
        """The key for one of llm_provider's values."""
        return {"anthropic": self.anthropic_api_key, "openai": self.openai_api_key}.get(provider)

    def is_usable(self, provider: str) -> bool:
        """Whether there is what this provider asks for: its key, or for openai a server of one's own."""
        return self.api_key(provider) is not None or (provider == "openai" and self.base_url is not None)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Http(Section):
    """The one port for health, metrics and the API."""

    host: Text = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    token: Annotated[Secret | None, Field(validate_default=True)] = None

    @field_validator("token")
    @classmethod
    def _guard_open_ports(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and not _is_loopback(info.data.get("host", "localhost")):
            raise ValueError("is needed, since http.host lets other machines in")
        return value


class Log(Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Media(Section):
    """Where the files of messages go: a folder, or an S3 store by its URL."""

    download: bool = True
    max_size: Size = 64 * 1024 * 1024
    dir: Path | None = None
    url: S3Url | None = None
    region: Text = "us-east-1"
    access_key_id: Secret | None = None
    secret_access_key: Annotated[Secret | None, Field(validate_default=True)] = None

    @field_validator("secret_access_key")
    @classmethod
    def _belong_together(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        # They may be in the environment for something else, where there is no store to use them for.
        if info.data.get("url") and (value is None) != (info.data.get("access_key_id") is None):
            raise ValueError("and access_key_id belong together: give both, or neither")
        return value


class Database(Section):
    """Which PostgreSQL: one by URL, else the embedded one with its data in `dir`."""

    url: DatabaseUrl | None = None
    dir: Path | None = None


class Store(Section):
    """How the store is shown, and read, and how long it keeps what."""

    public_face: Literal["crm", "processor", "store", "threads", "whaply"] | None = None
    read_url: DatabaseUrl | None = None
    retention: DurationOrNever = None
    raw_retention: DurationOrNever = None
    index_json: bool = False


class Config(Section):
    """The whole configuration."""

    tenants: tuple[Tenant, ...] = Field(min_length=1)
    flows: Flows = Flows()
    answer: Answer = Answer()
    takeover: Takeover = Takeover()
    pace: Pace = Pace()
    whatsapp: Whatsapp = Whatsapp()
    ai: Ai = Ai()
    http: Http = Http()
    log: Log = Log()
    media: Media = Media()
    database: Database = Database()
    store: Store = Store()
