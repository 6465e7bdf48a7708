"""The daemon's one HTTP port: health, metrics, the cron call; it knows of the daemon what its protocols say."""

from bot.http.app import CronResult, build_app
from bot.http.health import AccountHealth, DatabaseHealth, HealthPort
from bot.http.server import CannotListen, listen, serve

__all__ = [
    "AccountHealth",
    "CannotListen",
    "CronResult",
    "DatabaseHealth",
    "HealthPort",
    "build_app",
    "listen",
    "serve",
]
