-- migrate:up
-- The states of a chat and what may change them: one table, `sidestep.after`, which all that changes a state goes by. Each
-- change raises the chat's epoch, so that no answer begun before it is sent, and cancels what is queued.

-- The table ----------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.after(p_state text, p_cause text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_cause
    WHEN 'human_spoke' THEN CASE WHEN p_state IN ('active', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'human_takeover' ELSE p_state END
    WHEN 'pause' THEN CASE WHEN p_state IN ('active', 'human_takeover', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'manual_pause' ELSE p_state END
    WHEN 'hand_off' THEN CASE p_state WHEN 'active' THEN 'ai_handoff' ELSE p_state END
    WHEN 'ask_for_human' THEN CASE p_state WHEN 'active' THEN 'customer_request' ELSE p_state END
    WHEN 'find_loop' THEN CASE p_state WHEN 'active' THEN 'bot_loop' ELSE p_state END
    WHEN 'resume' THEN CASE WHEN p_state IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'active' ELSE p_state END
    WHEN 'clock' THEN CASE WHEN p_state IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request', 'bot_loop') THEN 'active' ELSE p_state END
    WHEN 'exclude' THEN CASE p_state WHEN 'active' THEN 'excluded' ELSE p_state END
    WHEN 'include' THEN CASE p_state WHEN 'excluded' THEN 'active' ELSE p_state END
    WHEN 'stop' THEN CASE p_state WHEN 'active' THEN 'opted_out' ELSE p_state END
    WHEN 'start' THEN CASE p_state WHEN 'opted_out' THEN 'active' ELSE p_state END
    WHEN 'global_pause' THEN CASE p_state WHEN 'active' THEN 'global_pause' ELSE p_state END
    WHEN 'global_resume' THEN CASE p_state WHEN 'global_pause' THEN 'active' ELSE p_state END
END;
COMMENT ON FUNCTION sidestep.after IS 'The table of states: what a cause makes of a state; as storage/states.py has it, and docs/takeover.md draws it.';

CREATE FUNCTION sidestep.guard_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch <= OLD.epoch OR NOT EXISTS (
        SELECT FROM unnest(ARRAY['human_spoke', 'pause', 'hand_off', 'ask_for_human', 'find_loop', 'resume', 'clock']) c (cause)
         WHERE sidestep.after(coalesce(OLD.pause_reason, 'active'), cause) = coalesce(NEW.pause_reason, 'active')) THEN
        RAISE EXCEPTION 'the state of chat % cannot go from % to % like this', NEW.chat_id, coalesce(OLD.pause_reason, 'active'), coalesce(NEW.pause_reason, 'active')
            USING ERRCODE = 'check_violation', TABLE = 'chat_state',
                  HINT = 'Call sidestep.pause, resume, exclude or opt_out: they raise the epoch, so that no answer begun before is still sent.';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.guard_state IS 'Refuses a change of state that the table does not have, or that leaves the epoch as it was.';
-- After the update: one before it would lock each chat's row a second time, also where nothing of this changes.
CREATE TRIGGER guard_state AFTER UPDATE OF is_paused, pause_reason, is_excluded, opted_out_at ON sidestep.chat_state FOR EACH ROW
    WHEN ((OLD.pause_reason, OLD.is_excluded, OLD.opted_out_at IS NULL) IS DISTINCT FROM (NEW.pause_reason, NEW.is_excluded, NEW.opted_out_at IS NULL))
    EXECUTE FUNCTION sidestep.guard_state();

CREATE FUNCTION sidestep.cancel_queued(p_tenant bigint, p_chat bigint, p_why text) RETURNS void
LANGUAGE sql AS $$
    UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = p_why
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND status = 'queued' AND sent_at IS NULL AND epoch IS NOT NULL
$$;
COMMENT ON FUNCTION sidestep.cancel_queued IS 'Drops the bot''s replies in a chat that have not left yet.';

-- Nothing is said that was begun before a human's line or a pause; but nobody has answered what it was to answer. That has an
-- event of its own beside the first, unless a part of its answer has left. What was written after a human's line, which may
-- be late, asks again; by a pause it is decided at once as what comes in it, and left to resume_mode.
CREATE FUNCTION sidestep.drop_answers(p_tenant bigint, p_chats bigint[], p_why text, p_paused_at timestamptz DEFAULT NULL) RETURNS void
LANGUAGE sql AS $$
    WITH cancelled AS (
        UPDATE sidestep.outbox o SET status = 'cancelled', due_at = NULL, error = p_why
          FROM sidestep.chat_state s
         WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (p_chats) AND o.tenant_id = p_tenant AND o.chat_id = s.chat_id
           AND o.status = 'queued' AND o.sent_at IS NULL AND o.epoch <> s.epoch
        RETURNING o.chat_id, o.answers, o.is_command_answer)
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, detail, decided_at)
    SELECT DISTINCT m.tenant_id, m.chat_id, m.id, 'back:' || s.epoch,
           CASE WHEN p_paused_at IS NOT NULL THEN 'ignored_paused' END, CASE WHEN p_paused_at IS NOT NULL THEN p_why END, p_paused_at
      FROM cancelled c CROSS JOIN unnest(c.answers) a (id)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = c.chat_id
      JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = c.chat_id AND m.id = a.id
     WHERE NOT c.is_command_answer AND m.deleted_at IS NULL
       AND ((s.last_human_at IS NULL AND p_paused_at IS NOT NULL) OR (m.sent_at, m.id) > (s.last_human_at, coalesce(s.last_human_id, 0)))
       AND NOT EXISTS (SELECT FROM sidestep.outbox o
                        WHERE o.tenant_id = p_tenant AND o.chat_id = c.chat_id AND o.id > a.id AND a.id = ANY (o.answers)
                          AND o.status IN ('sending', 'sent', 'delivered', 'read', 'unknown'))
$$;
COMMENT ON FUNCTION sidestep.drop_answers IS 'These chats have another epoch by now: drops the bot''s replies of an older one that have not left yet; what they answer asks again or, where it is a pause that drops them, is left to resume_mode, but for what was written before the human''s last line.';

-- Pauses -------------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.change_pause(p_tenant bigint, p_chat bigint, p_cause text, p_now timestamptz, p_until timestamptz DEFAULT NULL)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_before text;
    v_after text;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    SELECT coalesce(pause_reason, 'active') INTO v_before FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    v_after := sidestep.after(v_before, p_cause);
    IF v_after = v_before AND p_cause <> 'pause' THEN -- a second pause by hand has a time of its own
        RETURN v_after;
    END IF;
    UPDATE sidestep.chat_state
       SET is_paused = v_after <> 'active', pause_reason = nullif(v_after, 'active'), epoch = epoch + 1,
           paused_at = CASE WHEN v_after <> 'active' THEN p_now END, paused_until = CASE WHEN v_after <> 'active' THEN p_until END
     WHERE tenant_id = p_tenant AND chat_id = p_chat;
    IF v_after <> 'active' THEN
        PERFORM sidestep.drop_answers(p_tenant, ARRAY[p_chat], 'paused: ' || v_after, p_now);
    END IF;
    RETURN v_after;
END $$;
COMMENT ON FUNCTION sidestep.change_pause IS 'What a cause makes of the pause of a chat: by the table, with the epoch. Returns the state that it has now.';

-- A chat may have a time of its own after which the owner's silence ends a takeover.
CREATE FUNCTION sidestep.idle_after(p_tenants interval, p_chats interval) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_chats IS NULL THEN p_tenants WHEN p_chats > interval '0' THEN p_chats END;
COMMENT ON FUNCTION sidestep.idle_after IS 'The owner''s silence that ends a takeover in a chat, by what the tenant and the chat say; null: none does.';

CREATE FUNCTION sidestep.counts(p_at timestamptz, p_resumed_at timestamptz, p_idle interval, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (p_idle IS NULL OR p_at + p_idle > p_now) AND (p_resumed_at IS NULL OR p_at >= p_resumed_at);
COMMENT ON FUNCTION sidestep.counts IS 'Whether a human''s line still takes a chat over: not when whoever wrote it would be idle again by now, nor when it was written before somebody called the bot back.';

CREATE FUNCTION sidestep.take_over(p_tenant bigint, p_chat bigint, p_at timestamptz, p_now timestamptz, p_message bigint DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_took boolean;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    SELECT sidestep.counts(p_at, s.resumed_at, sidestep.idle_after(t.auto_resume_after, s.auto_resume_after), p_now)
           AND sidestep.after(coalesce(s.pause_reason, 'active'), 'human_spoke') IS DISTINCT FROM coalesce(s.pause_reason, 'active') INTO v_took
      FROM sidestep.chat_state s JOIN sidestep.tenants t USING (tenant_id) WHERE s.tenant_id = p_tenant AND s.chat_id = p_chat;
    UPDATE sidestep.chat_state
       SET epoch = epoch + 1, last_human_at = greatest(last_human_at, least(p_at, p_now)),
           last_human_id = CASE WHEN p_message IS NULL OR last_human_at > least(p_at, p_now) THEN last_human_id ELSE p_message END,
           is_paused = is_paused OR v_took,
           pause_reason = CASE WHEN v_took THEN sidestep.after(coalesce(pause_reason, 'active'), 'human_spoke') ELSE pause_reason END,
           paused_at = CASE WHEN v_took THEN p_now ELSE paused_at END, paused_until = CASE WHEN v_took THEN NULL ELSE paused_until END
     WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM sidestep.drop_answers(p_tenant, ARRAY[p_chat], 'a human took over');
    RETURN CASE WHEN v_took THEN 'paused' ELSE 'human_spoke' END;
END $$;
COMMENT ON FUNCTION sidestep.take_over IS 'A human has spoken at that time, in words that `record` is not told of, or has not taken for a human''s. Returns the decision about it.';

CREATE FUNCTION sidestep.pause(p_tenant bigint, p_chat bigint, p_reason text, p_now timestamptz, p_until timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_cause text := CASE p_reason WHEN 'human_takeover' THEN 'human_spoke' WHEN 'manual_pause' THEN 'pause'
                                  WHEN 'ai_handoff' THEN 'hand_off' WHEN 'customer_request' THEN 'ask_for_human'
                                  WHEN 'bot_loop' THEN 'find_loop' END;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    -- Whoever writes a reason by SQL means it, whatever stood there before.
    IF sidestep.change_pause(p_tenant, p_chat, v_cause, p_now, p_until) <> p_reason THEN
        PERFORM sidestep.change_pause(p_tenant, p_chat, 'resume', p_now);
        PERFORM sidestep.change_pause(p_tenant, p_chat, v_cause, p_now, p_until);
    END IF;
    IF p_reason = 'human_takeover' THEN
        UPDATE sidestep.chat_state SET last_human_at = p_now WHERE tenant_id = p_tenant AND chat_id = p_chat;
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.pause IS 'Silences the bot in a chat; until null: for as long as the reason says.';

CREATE FUNCTION sidestep.resume(p_tenant bigint, p_chat bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.change_pause(p_tenant, p_chat, 'resume', now());
END $$;
COMMENT ON FUNCTION sidestep.resume IS 'Lets the bot speak again in a chat.';

CREATE FUNCTION sidestep.call_back(p_tenant bigint, p_chat bigint, p_asked bigint, p_asked_at timestamptz, p_now timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat AND pause_reason = 'human_takeover'
                  AND (last_human_at > p_asked_at OR (last_human_at = p_asked_at AND last_human_id > p_asked))) THEN -- the human spoke last
        RETURN 'human_takeover';
    END IF;
    UPDATE sidestep.chat_state SET resumed_at = greatest(resumed_at, least(p_asked_at, p_now)) WHERE tenant_id = p_tenant AND chat_id = p_chat;
    RETURN sidestep.change_pause(p_tenant, p_chat, 'resume', p_now);
END $$;
COMMENT ON FUNCTION sidestep.call_back IS 'Ends a pause because a message asked for it: lines that were written before that message pause no more, and a takeover by one from after it stands. Returns the state that the chat has now.';

-- Silences of other kinds --------------------------------------------------------------------------------

CREATE FUNCTION sidestep.exclude(p_tenant bigint, p_chat bigint, p_excluded boolean, p_at timestamptz DEFAULT now()) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    UPDATE sidestep.chat_state
       SET is_excluded = sidestep.after(CASE WHEN is_excluded THEN 'excluded' ELSE 'active' END, CASE WHEN p_excluded THEN 'exclude' ELSE 'include' END) = 'excluded',
           excluded_at = p_at, epoch = epoch + 1
     WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM sidestep.cancel_queued(p_tenant, p_chat, 'the chat was excluded');
END $$;
COMMENT ON FUNCTION sidestep.exclude IS 'Bars the bot from a chat, or lets it in again.';

CREATE FUNCTION sidestep.opt_out(p_tenant bigint, p_chat bigint, p_out boolean, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    UPDATE sidestep.chat_state
       SET opted_out_at = CASE WHEN sidestep.after(CASE WHEN opted_out_at IS NULL THEN 'active' ELSE 'opted_out' END, CASE WHEN p_out THEN 'stop' ELSE 'start' END) = 'opted_out'
                               THEN p_at END,
           opted_at = p_at, epoch = epoch + 1
     WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM sidestep.cancel_queued(p_tenant, p_chat, 'the customer opted out');
END $$;
COMMENT ON FUNCTION sidestep.opt_out IS 'The customer wants no more automatic messages, or wants them again.';

CREATE FUNCTION sidestep.set_global_pause(p_tenant bigint, p_paused boolean, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sidestep.processing_state AS p (tenant_id, is_paused, paused_at, resumed_at)
    VALUES (p_tenant, p_paused, CASE WHEN p_paused THEN p_now END, CASE WHEN NOT p_paused THEN p_now END)
    ON CONFLICT (tenant_id) DO UPDATE
       SET is_paused = excluded.is_paused, paused_at = coalesce(excluded.paused_at, p.paused_at),
           resumed_at = coalesce(excluded.resumed_at, p.resumed_at);
    IF p_paused THEN
        -- The chats before their rows and in one order, as claims lock them. What is queued at this very moment a claim refuses.
        PERFORM FROM sidestep.chat_state s
          WHERE s.tenant_id = p_tenant AND s.chat_id IN (SELECT o.chat_id FROM sidestep.outbox o
                                                          WHERE o.tenant_id = p_tenant AND o.status = 'queued' AND o.sent_at IS NULL AND o.epoch IS NOT NULL)
          ORDER BY s.chat_id FOR NO KEY UPDATE;
        UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = 'all chats were paused'
         WHERE tenant_id = p_tenant AND status = 'queued' AND sent_at IS NULL AND epoch IS NOT NULL;
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.set_global_pause IS 'Silences the bot in every chat of a tenant, and cancels what is queued there; or brings it back. Claims look at it each time, so that it needs no epoch.';

CREATE FUNCTION sidestep.reset(p_tenant bigint, p_chat bigint, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    UPDATE sidestep.threads SET status = 'archived', archived_at = p_now WHERE tenant_id = p_tenant AND chat_id = p_chat AND status = 'active';
    UPDATE sidestep.chat_state SET active_thread_id = NULL, epoch = epoch + 1 WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM sidestep.cancel_queued(p_tenant, p_chat, 'the conversation was reset');
END $$;
COMMENT ON FUNCTION sidestep.reset IS 'Archives the active thread; the next message begins a new one.';

-- Back by clock ------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.returns_at(p_reason text, p_paused_at timestamptz, p_until timestamptz, p_human_at timestamptz, p_idle interval)
RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    -- A human who spoke during a pause for a time is not interrupted when it ends: never, where no silence ends a takeover.
    WHEN p_until IS NOT NULL AND p_human_at > p_paused_at THEN CASE WHEN p_idle IS NOT NULL THEN greatest(p_until, p_human_at + p_idle) END
    WHEN p_until IS NOT NULL THEN p_until
    WHEN p_reason = 'human_takeover' THEN p_human_at + p_idle
    WHEN p_reason IN ('ai_handoff', 'customer_request') THEN greatest(p_human_at, p_paused_at) + p_idle
END;
COMMENT ON FUNCTION sidestep.returns_at IS 'When the clock ends a pause, by what chat_state has and by what idle_after tells; null: never, or there is none.';

CREATE FUNCTION sidestep.resume_due(p_tenant bigint, p_now timestamptz, p_limit int)
RETURNS TABLE (chat_id bigint, message_id bigint, due_at timestamptz) LANGUAGE sql AS $$
    WITH due AS (
        SELECT s.tenant_id, s.chat_id, d.at
          FROM sidestep.chat_state s JOIN sidestep.tenants t USING (tenant_id),
               LATERAL (SELECT sidestep.returns_at(s.pause_reason, s.paused_at, s.paused_until, s.last_human_at,
                                                   sidestep.idle_after(t.auto_resume_after, s.auto_resume_after)) AS at) d
         WHERE s.tenant_id = p_tenant AND s.is_paused AND d.at <= p_now
         ORDER BY d.at LIMIT p_limit FOR NO KEY UPDATE OF s SKIP LOCKED),
    back AS (
        UPDATE sidestep.chat_state s
           SET is_paused = false, pause_reason = NULL, paused_at = NULL, paused_until = NULL, epoch = s.epoch + 1
          FROM due WHERE s.tenant_id = due.tenant_id AND s.chat_id = due.chat_id
        RETURNING s.tenant_id, s.chat_id, s.epoch, coalesce(s.last_human_id, s.last_message_id) AS message_id, due.at),
    told AS (
        INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
        SELECT tenant_id, chat_id, message_id, 'clock:' || epoch, 'resumed', p_now FROM back
         WHERE EXISTS (SELECT FROM sidestep.messages m -- it may have been archived with its month
                        WHERE m.tenant_id = back.tenant_id AND m.chat_id = back.chat_id AND m.id = back.message_id))
    SELECT chat_id, message_id, at FROM back ORDER BY at
$$;
COMMENT ON FUNCTION sidestep.resume_due IS 'Ends the pauses whose time has come, each once however many ask, and records that the clock did it.';

CREATE FUNCTION sidestep.resume_idle(p_tenant bigint, p_now timestamptz, p_idle interval) RETURNS int
LANGUAGE sql AS $$
    WITH due AS (
        SELECT chat_id FROM sidestep.chat_state
         WHERE tenant_id = p_tenant AND is_paused AND paused_until IS NULL
           AND CASE pause_reason WHEN 'human_takeover' THEN last_human_at
                                 WHEN 'manual_pause' THEN NULL -- stays until it is lifted
                                 ELSE greatest(last_human_at, paused_at) END < p_now - p_idle
         ORDER BY chat_id FOR NO KEY UPDATE SKIP LOCKED),
    back AS (
        UPDATE sidestep.chat_state s SET is_paused = false, pause_reason = NULL, paused_at = NULL, paused_until = NULL, epoch = s.epoch + 1
          FROM due WHERE s.tenant_id = p_tenant AND s.chat_id = due.chat_id
        RETURNING s.chat_id, s.epoch, coalesce(s.last_human_id, s.last_message_id) AS message_id),
    told AS (
        INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
        SELECT p_tenant, chat_id, message_id, 'clock:' || epoch, 'resumed', p_now FROM back
         WHERE EXISTS (SELECT FROM sidestep.messages m WHERE m.tenant_id = p_tenant AND m.chat_id = back.chat_id AND m.id = back.message_id))
    SELECT count(*)::int FROM back
$$;
COMMENT ON FUNCTION sidestep.resume_idle IS 'As resume_due, but after a silence that the caller names. Pauses by hand and pauses for a time are left alone. Returns how many it ended.';

-- What nobody has answered -------------------------------------------------------------------------------
-- What became of customers' messages while the bot was silent, or was not there: resume_mode decides. A message that nobody
-- has answered asks again when the bot is back, as an event of its own beside the first, whose decision stands.

CREATE FUNCTION sidestep.resume_mode(p_tenants text, p_chats text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_chats WHEN 'from_now' THEN 'from_now' ELSE p_tenants END;
COMMENT ON FUNCTION sidestep.resume_mode IS 'What becomes of unanswered messages of a chat, by what the tenant and the chat say; null: as the tenants'' column tells.';

-- By whatever a pause ends: the clock, a command, SQL. With the rights of the tables' owner, as a tenant's role may open no
-- decision; which of them are opened is not the caller's to say.
CREATE FUNCTION sidestep.reopen_backlog() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF sidestep.resume_mode((SELECT t.resume_mode FROM sidestep.tenants t WHERE t.tenant_id = NEW.tenant_id), NEW.resume_mode) = 'from_last' THEN
        INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type)
        SELECT m.tenant_id, m.chat_id, m.id, 'back:' || NEW.epoch
          FROM sidestep.messages m
         WHERE m.tenant_id = NEW.tenant_id AND m.chat_id = NEW.chat_id AND m.author = 'customer' AND m.deleted_at IS NULL
           -- What was written before the human's last line is the human's.
           AND (OLD.last_human_at IS NULL OR (m.sent_at, m.id) > (OLD.last_human_at, coalesce(OLD.last_human_id, 0)))
           AND m.id >= sidestep.id_floor(OLD.last_message_at - interval '2 days')
           AND (SELECT d.action_taken FROM sidestep.decisions d
                 WHERE d.tenant_id = m.tenant_id AND d.chat_id = m.chat_id AND d.message_id = m.id AND d.event_type <> 'repeat' AND d.event_type NOT LIKE 'clock:%'
                 ORDER BY d.decided_at DESC NULLS FIRST, nullif(split_part(d.event_type, ':', 2), '')::bigint DESC NULLS LAST LIMIT 1) = 'ignored_paused';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.reopen_backlog IS 'A pause has ended: where resume_mode is from_last, what customers wrote in it and no human has answered since asks once more.';
CREATE TRIGGER reopen_backlog AFTER UPDATE OF is_paused ON sidestep.chat_state FOR EACH ROW
    WHEN (OLD.is_paused AND NOT NEW.is_paused) EXECUTE FUNCTION sidestep.reopen_backlog();
