"""docs/sources.md: names everything that the five documents name, and nothing of ours that there is not."""

from __future__ import annotations

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest
import typer.main

from bot.cli import app
from storage.database import Database

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")

_THEIRS = """
et_threads et_messages assign_thread() tr_assign_thread DATABASE_URL
whatsapp_vayyari_data 001_chats.sql 002_messages.sql 003_chat_tracking_state.sql 004_processing_state.sql
005_media_files.sql chats messages chat_tracking_state processing_state media_files setup.sql deeplens_url
deeplens_vayyari_core VAYYARI_WA_DB_CONNECTION_STRING
database/schema.sql tenants sessions processed_events cleanup_old_processed_events(days_to_keep)
auto_resume_paused_sessions(hours_inactive) /cron/auto-resume messages_archive backup.sql schema_backup.sql
data_backup.sql
chat_conversations chat_conversation_archives messaging_connections people messaging-ingest last_message_preview
supabase/functions/messaging-ingest/index.ts src/types/messaging.ts src/hooks/use-chat-conversations.ts
src/pages/MessagingConnections.tsx src/components/crm/ConversationList.tsx
src/components/crm/ConversationThread.tsx src/App.tsx src/components/layout/CRMSidebar.tsx src/pages/PersonDetail.tsx
src/database/migrations/001_init.sql src/database/schemas/message.ts
src/database/repositories/messageRepository.ts src/services/messageService.ts src/middleware/messageLogger.ts
src/utils/flowHelpers.ts src/flows/ai/chatFlow.ts flowDynamic() exists()
"""
_METHODS = """
logIncoming logOutgoing sendAndLog getConversationHistory getLastMessages searchMessages getMessageStats
getFailedMessages getMediaMessages softDelete hardDelete logOutgoingMessage logOutgoingMediaMessage
updateMessageStatus
"""

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]
LEFT = [quoted for row in ROWS for quoted in re.findall(r"`([^`]+)`", row[0])]
RIGHT = [quoted for row in ROWS for quoted in re.findall(r"`([^`]+)`", row[1])]

PYTHON = [name for name in RIGHT if re.fullmatch(r"(bot|flows|storage)(\.\w+)+", name)]
SQL = [name for name in RIGHT if re.fullmatch(r"(sidestep|face_\w+)\.\w+", name)]
COMMANDS = [name for name in RIGHT if re.fullmatch(r"sidestep [a-z]+", name)]
FOLDERS = [name for name in RIGHT if re.fullmatch(r"\w+/\w+", name)]
_PLAIN = """
sidestep /reset /search /stats /failed /readyz DATABASE_URL schema_only data_only since until is_deleted media_url
store.read_url
"""


@pytest.mark.parametrize("name", _THEIRS.split())
def test_what_the_documents_name_is_mapped(name: str) -> None:
    assert name in LEFT


@pytest.mark.parametrize("method", _METHODS.split())
def test_what_the_documents_call_is_mapped(method: str) -> None:
    assert any(re.search(rf"(^|\.){method}\(", name) for name in LEFT)


@pytest.mark.parametrize("name", PYTHON)
def test_what_we_name_in_python_is_there(name: str) -> None:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        reduce(getattr, parts[end:], module)
        return
    pytest.fail(f"there is no {name}")


async def test_what_we_name_in_sql_is_there(rollback_db: Database) -> None:
    missing = [
        row["name"]
        for row in await rollback_db.fetch(
            "SELECT name FROM unnest($1::text[]) name WHERE to_regclass(name) IS NULL AND NOT EXISTS ("
            " SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            "  WHERE n.nspname || '.' || p.proname = name)",
            SQL,
        )
    ]
    assert missing == []


def test_the_commands_and_folders_that_we_name_are_there() -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group has them
    assert {name.removeprefix("sidestep ") for name in COMMANDS} <= set(known)
    assert all((ROOT / folder).is_dir() for folder in FOLDERS)


def test_nothing_of_ours_is_named_unseen() -> None:
    assert {*RIGHT} - {*PYTHON, *SQL, *COMMANDS, *FOLDERS} <= {*_PLAIN.split()}
    assert len(PYTHON) > 50
