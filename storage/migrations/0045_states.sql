-- migrate:up
-- The states of a chat and what may change them: one table, `sidestep.after`, which all that changes a state goes by.

UPDATE sidestep.chat_state SET pause_reason = CASE WHEN is_paused THEN 'manual_pause' END, epoch = epoch + 1
 WHERE is_paused <> (pause_reason IS NOT NULL);
ALTER TABLE sidestep.chat_state
    ADD COLUMN resumed_at timestamptz,
    ADD CONSTRAINT chat_state_pause_has_a_reason CHECK (is_paused = (pause_reason IS NOT NULL));
COMMENT ON COLUMN sidestep.chat_state.resumed_at IS 'When the last command to come back was written: a human''s line from before it pauses no more. By the platform''s clock.';

CREATE FUNCTION sidestep.after(p_state text, p_cause text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_cause
    WHEN 'human_spoke' THEN CASE WHEN p_state IN ('active', 'ai_handoff', 'customer_request') THEN 'human_takeover' ELSE p_state END
    WHEN 'pause' THEN CASE WHEN p_state IN ('active', 'human_takeover', 'ai_handoff', 'customer_request') THEN 'manual_pause' ELSE p_state END
    WHEN 'hand_off' THEN CASE p_state WHEN 'active' THEN 'ai_handoff' ELSE p_state END
    WHEN 'ask_for_human' THEN CASE p_state WHEN 'active' THEN 'customer_request' ELSE p_state END
    WHEN 'resume' THEN CASE WHEN p_state IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request') THEN 'active' ELSE p_state END
    WHEN 'clock' THEN CASE WHEN p_state IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request') THEN 'active' ELSE p_state END
    WHEN 'exclude' THEN CASE p_state WHEN 'active' THEN 'excluded' ELSE p_state END
    WHEN 'include' THEN CASE p_state WHEN 'excluded' THEN 'active' ELSE p_state END
    WHEN 'stop' THEN CASE p_state WHEN 'active' THEN 'opted_out' ELSE p_state END
    WHEN 'start' THEN CASE p_state WHEN 'opted_out' THEN 'active' ELSE p_state END
    WHEN 'global_pause' THEN CASE p_state WHEN 'active' THEN 'global_pause' ELSE p_state END
    WHEN 'global_resume' THEN CASE p_state WHEN 'global_pause' THEN 'active' ELSE p_state END
END;
COMMENT ON FUNCTION sidestep.after IS 'The table of states: what a cause makes of a state; as storage/states.py has it, and docs/takeover.md draws it.';

CREATE FUNCTION sidestep.counts(p_at timestamptz, p_resumed_at timestamptz, p_idle interval, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (p_idle IS NULL OR p_at + p_idle > p_now) AND (p_resumed_at IS NULL OR p_at >= p_resumed_at);
COMMENT ON FUNCTION sidestep.counts IS 'Whether a human''s line still takes a chat over: not when whoever wrote it would be idle again by now, nor when it was written before somebody called the bot back.';

CREATE FUNCTION sidestep.guard_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.epoch <= OLD.epoch OR NOT EXISTS (
        SELECT FROM unnest(ARRAY['human_spoke', 'pause', 'hand_off', 'ask_for_human', 'resume', 'clock']) c (cause)
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
        PERFORM sidestep.cancel_queued(p_tenant, p_chat, 'paused: ' || v_after);
    END IF;
    RETURN v_after;
END $$;
COMMENT ON FUNCTION sidestep.change_pause IS 'What a cause makes of the pause of a chat: by the table, with the epoch. Returns the state that it has now.';

CREATE FUNCTION sidestep.take_over(p_tenant bigint, p_chat bigint, p_at timestamptz, p_now timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_took boolean;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    SELECT sidestep.counts(p_at, s.resumed_at, t.auto_resume_after, p_now)
           AND sidestep.after(coalesce(s.pause_reason, 'active'), 'human_spoke') IS DISTINCT FROM coalesce(s.pause_reason, 'active') INTO v_took
      FROM sidestep.chat_state s JOIN sidestep.tenants t USING (tenant_id) WHERE s.tenant_id = p_tenant AND s.chat_id = p_chat;
    UPDATE sidestep.chat_state
       SET epoch = epoch + 1, last_human_at = greatest(last_human_at, least(p_at, p_now)), is_paused = is_paused OR v_took,
           pause_reason = CASE WHEN v_took THEN sidestep.after(coalesce(pause_reason, 'active'), 'human_spoke') ELSE pause_reason END,
           paused_at = CASE WHEN v_took THEN p_now ELSE paused_at END, paused_until = CASE WHEN v_took THEN NULL ELSE paused_until END
     WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM sidestep.cancel_queued(p_tenant, p_chat, 'a human took over');
    RETURN CASE WHEN v_took THEN 'paused' ELSE 'human_spoke' END;
END $$;
COMMENT ON FUNCTION sidestep.take_over IS 'A human has spoken at that time, in words that `record` is not told of. Returns the decision about it.';

CREATE OR REPLACE FUNCTION sidestep.pause(p_tenant bigint, p_chat bigint, p_reason text, p_now timestamptz, p_until timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_cause text := CASE p_reason WHEN 'human_takeover' THEN 'human_spoke' WHEN 'manual_pause' THEN 'pause'
                                  WHEN 'ai_handoff' THEN 'hand_off' WHEN 'customer_request' THEN 'ask_for_human' END;
BEGIN
    -- Whoever writes a reason by SQL means it, whatever stood there before.
    IF sidestep.change_pause(p_tenant, p_chat, v_cause, p_now, p_until) <> p_reason THEN
        PERFORM sidestep.change_pause(p_tenant, p_chat, 'resume', p_now);
        PERFORM sidestep.change_pause(p_tenant, p_chat, v_cause, p_now, p_until);
    END IF;
    IF p_reason = 'human_takeover' THEN
        UPDATE sidestep.chat_state SET last_human_at = p_now WHERE tenant_id = p_tenant AND chat_id = sidestep.hold_chat(p_tenant, p_chat);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION sidestep.resume(p_tenant bigint, p_chat bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.change_pause(p_tenant, p_chat, 'resume', now());
END $$;

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

CREATE OR REPLACE FUNCTION sidestep.exclude(p_tenant bigint, p_chat bigint, p_excluded boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    UPDATE sidestep.chat_state
       SET is_excluded = sidestep.after(CASE WHEN is_excluded THEN 'excluded' ELSE 'active' END, CASE WHEN p_excluded THEN 'exclude' ELSE 'include' END) = 'excluded',
           epoch = epoch + 1
     WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM sidestep.cancel_queued(p_tenant, p_chat, 'the chat was excluded');
END $$;

CREATE FUNCTION sidestep.opt_out(p_tenant bigint, p_chat bigint, p_out boolean, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    UPDATE sidestep.chat_state
       SET opted_out_at = CASE WHEN sidestep.after(CASE WHEN opted_out_at IS NULL THEN 'active' ELSE 'opted_out' END, CASE WHEN p_out THEN 'stop' ELSE 'start' END) = 'opted_out'
                               THEN p_now END,
           epoch = epoch + 1
     WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM sidestep.cancel_queued(p_tenant, p_chat, 'the customer opted out');
END $$;
COMMENT ON FUNCTION sidestep.opt_out IS 'The customer wants no more automatic messages, or wants them again.';

-- As in 0034_record, but that a human's message goes by the table, and by when somebody called the bot back.

CREATE OR REPLACE FUNCTION sidestep.record(p_tenant bigint, p_account bigint, p_channel text, p_now timestamptz,
    p_jid text[], p_sender text[], p_device int[], p_external_id text[], p_author text[], p_type text[], p_is_group boolean[],
    p_text text[], p_reply_to text[], p_addressed boolean[], p_command text[], p_sent_at timestamptz[], p_raw text[],
    p_target_from_me boolean[], p_target_sender text[], p_metadata jsonb[], p_takes_over boolean[], p_action text[])
RETURNS TABLE (ordinal int, is_new boolean, id bigint, chat_id bigint, thread_id bigint, action_taken text,
    changed_id bigint, text text, edited_at timestamptz, deleted_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET lock_timeout = '2s' -- whoever holds one chat may not keep a batch, and the chats that it has locked, waiting
    ROWS 100 AS $$
DECLARE
    v_chat bigint[];
    v_contact bigint[];
    v_id bigint[];
    v_new boolean[]; -- not here yet
    v_live boolean[]; -- heard for the first time: new, or told by the past only
    v_action text[];
    v_changed bigint[];
    v_resume interval;
BEGIN
    SELECT auto_resume_after INTO v_resume FROM sidestep.tenants WHERE tenant_id = p_tenant;
    SELECT chats, contacts INTO v_chat, v_contact FROM sidestep.whereabouts(p_tenant, p_account, p_channel, p_jid, p_sender, p_external_id);
    PERFORM sidestep.lock_chats(p_tenant, v_chat);
    PERFORM sidestep.open_threads(p_tenant, v_chat, p_now);

    -- Keys first: what is not new has been here before. An id is above every earlier one of its chat, also when the
    -- clock goes back or the sequence wraps.
    WITH numbered AS MATERIALIZED (
        SELECT i.*, nextval('sidestep.message_sequence') AS n
          FROM unnest(v_chat, v_contact, p_external_id, p_author, p_is_group) WITH ORDINALITY i (chat, contact, ext, author, grp, o)),
    placed AS MATERIALIZED (
        SELECT numbered.*, ((greatest(sidestep.milliseconds(p_now), (s.last_message_id >> 20) + 1)
                             + (n >> 20) - (min(n) OVER () >> 20)) << 20) | (n & 1048575) AS id
          FROM numbered JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat),
    keyed AS (
        INSERT INTO sidestep.message_keys AS k (tenant_id, chat_id, external_id, from_me, sender_id, id)
        SELECT p_tenant, chat, ext, author = 'human', CASE WHEN grp AND author = 'customer' THEN coalesce(contact, 0) ELSE 0 END, placed.id
          FROM placed ORDER BY o ON CONFLICT DO NOTHING RETURNING k.chat_id, k.id)
    SELECT array_agg(placed.id ORDER BY o), array_agg(keyed.id IS NOT NULL ORDER BY o) INTO v_id, v_new
      FROM placed LEFT JOIN keyed ON keyed.id = placed.id AND keyed.chat_id = placed.chat;
    IF false = ANY (v_new) THEN -- a repeat is about the message that was here before
        SELECT array_agg(CASE WHEN fresh THEN i.id ELSE coalesce(k.id, i.id) END ORDER BY o) INTO v_id
          FROM unnest(v_chat, v_id, v_new, p_external_id, p_author, p_is_group, v_contact) WITH ORDINALITY
               i (chat, id, fresh, ext, author, grp, contact, o)
          LEFT JOIN sidestep.message_keys k
            ON k.tenant_id = p_tenant AND k.external_id = ext AND k.chat_id = chat AND k.from_me = (author = 'human')
           AND k.sender_id = CASE WHEN grp AND author = 'customer' THEN coalesce(contact, 0) ELSE 0 END;
    END IF;
    v_live := v_new;
    IF false = ANY (v_new) THEN
        SELECT array_agg(fresh OR (first AND given IS DISTINCT FROM 'imported' AND sidestep.is_past(p_tenant, chat, i.id)) ORDER BY o) INTO v_live
          FROM (SELECT u.*, row_number() OVER (PARTITION BY chat, u.id ORDER BY o) = 1 AS first
                  FROM unnest(v_chat, v_id, v_new, p_action) WITH ORDINALITY u (chat, id, fresh, given, o)) i;
    END IF;

    -- A human spoke: the first such message that the table of states makes a takeover is the takeover. One that no longer
    -- counts raises the epoch, but pauses nothing.
    SELECT array_agg(CASE
               WHEN NOT takes_over THEN given
               WHEN sidestep.after(state, 'human_spoke') <> state AND pauses AND first THEN 'paused'
               ELSE 'human_spoke' END ORDER BY o) INTO v_action
      FROM (SELECT i.*, state, pauses, row_number() OVER (PARTITION BY chat, takes_over AND pauses AND fresh ORDER BY o) = 1 AND fresh AS first
              FROM unnest(v_chat, v_live, p_takes_over, p_action, p_sent_at) WITH ORDINALITY i (chat, fresh, takes_over, given, at, o)
              JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat,
                   LATERAL (SELECT coalesce(s.pause_reason, 'active') AS state, sidestep.counts(at, s.resumed_at, v_resume, p_now) AS pauses) x) t;

    UPDATE sidestep.chat_state s
       SET last_message_id = greatest(s.last_message_id, b.last_id), last_message_at = p_now, reply_jid = coalesce(b.reply_jid, s.reply_jid),
           epoch = s.epoch + b.spoke::int,
           last_human_at = greatest(s.last_human_at, b.human_at), last_human_id = greatest(s.last_human_id, b.human_id),
           is_paused = s.is_paused OR b.took, pause_reason = CASE WHEN b.took THEN sidestep.after(coalesce(s.pause_reason, 'active'), 'human_spoke') ELSE s.pause_reason END,
           paused_at = CASE WHEN b.took THEN p_now ELSE s.paused_at END, paused_until = CASE WHEN b.took THEN NULL ELSE s.paused_until END
      FROM (SELECT chat, max(i.id) AS last_id, bool_or(takes_over) AS spoke, bool_or(takes_over AND act = 'paused') AS took,
                   max(least(at, p_now)) FILTER (WHERE takes_over) AS human_at, max(i.id) FILTER (WHERE takes_over) AS human_id,
                   (array_agg(jid ORDER BY i.id DESC) FILTER (WHERE author = 'customer'))[1] AS reply_jid
              FROM unnest(v_chat, v_id, v_live, p_takes_over, v_action, p_sent_at, p_jid, p_author)
                   i (chat, id, live, takes_over, act, at, jid, author)
             WHERE live GROUP BY chat) b
     WHERE s.tenant_id = p_tenant AND s.chat_id = b.chat;
    UPDATE sidestep.outbox o SET status = 'cancelled', due_at = NULL, error = 'a human took over'
     WHERE o.tenant_id = p_tenant AND o.status = 'queued' AND o.sent_at IS NULL AND o.epoch IS NOT NULL
       AND o.chat_id IN (SELECT chat FROM unnest(v_chat, v_live, p_takes_over) i (chat, live, takes_over) WHERE live AND takes_over);

    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, sender_id, sender_device,
                                   is_group, text, reply_to, addressed, command, metadata, sent_at)
    SELECT p_tenant, chat, i.id, s.active_thread_id, CASE WHEN author = 'human' THEN 'outbound' ELSE 'inbound' END, author, typ, ext,
           CASE WHEN author = 'customer' THEN contact END, CASE WHEN author = 'human' THEN device END, grp, txt, i.reply_to, i.addressed, i.command, i.metadata, at
      FROM unnest(v_chat, v_contact, v_id, v_new, p_author, p_type, p_external_id, p_device, p_is_group, p_text, p_reply_to,
                  p_addressed, p_command, p_metadata, p_sent_at) WITH ORDINALITY
           i (chat, contact, id, fresh, author, typ, ext, device, grp, txt, reply_to, addressed, command, metadata, at, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
     WHERE fresh ORDER BY o;
    INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw)
    SELECT p_tenant, chat, i.id, payload::jsonb FROM unnest(v_chat, v_id, v_new, p_raw) i (chat, id, fresh, payload)
     WHERE fresh AND payload IS NOT NULL;
    IF v_live <> v_new THEN
        PERFORM sidestep.hear_live(p_tenant, v_chat, v_id, ARRAY(SELECT live AND NOT fresh FROM unnest(v_live, v_new) WITH ORDINALITY i (live, fresh, o) ORDER BY o),
                                   p_device, p_type, p_text, p_command);
    END IF;
    -- Also what was imported is decided now: that said only that it had not come live, and stands beside.
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
    SELECT p_tenant, chat, i.id, CASE WHEN fresh THEN 'message' ELSE 'live' END, act, CASE WHEN act IS NOT NULL THEN p_now END
      FROM unnest(v_chat, v_id, v_new, v_live, v_action) i (chat, id, fresh, live, act) WHERE live;

    -- A repeat is an event too: it leaves its own decision beside the message's.
    IF false = ANY (v_live) THEN
        INSERT INTO sidestep.decisions AS d (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
        SELECT DISTINCT p_tenant, chat, i.id, 'repeat', 'duplicate', p_now FROM unnest(v_chat, v_id, v_live) i (chat, id, live)
         WHERE NOT live -- nor archived: a decision lives as long as its message
           AND EXISTS (SELECT FROM sidestep.messages m WHERE m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = i.id)
        ON CONFLICT DO NOTHING;
    END IF;

    IF p_type && ARRAY['edit', 'revoke', 'reaction'] THEN
        PERFORM sidestep.await_targets(p_tenant, v_chat, v_id, v_live, p_type, p_reply_to, p_target_from_me, p_target_sender);
    END IF;
    IF EXISTS (SELECT FROM sidestep.early_changes e WHERE e.tenant_id = p_tenant AND e.external_id = ANY (p_external_id || p_reply_to)) THEN
        WITH applied AS MATERIALIZED (SELECT * FROM sidestep.apply_changes(p_tenant, v_chat, p_external_id || p_reply_to))
        SELECT array_agg(coalesce(a.target_id, t.target_id) ORDER BY o) INTO v_changed
          FROM unnest(v_chat, v_id, v_live) WITH ORDINALITY i (chat, id, live, o)
          LEFT JOIN applied a ON live AND (a.chat_id, a.change_id) = (chat, i.id)
          LEFT JOIN (SELECT DISTINCT d.chat_id, d.target_id FROM applied d) t ON live AND (t.chat_id, t.target_id) = (chat, i.id);
    END IF;

    IF v_changed IS NULL AND v_live = v_new THEN -- mostly: nothing reads differently from what came
        RETURN QUERY
        SELECT o::int, live, i.id, chat, s.active_thread_id, CASE WHEN live THEN act ELSE 'duplicate' END,
               NULL::bigint, NULL::text, NULL::timestamptz, NULL::timestamptz
          FROM unnest(v_id, v_live, v_chat, v_action) WITH ORDINALITY i (id, live, chat, act, o)
          JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
         ORDER BY o;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT o::int, live, i.id, chat, s.active_thread_id, CASE WHEN live THEN act ELSE 'duplicate' END,
           m.id, m.text, m.edited_at, m.deleted_at
      FROM unnest(v_id, v_new, v_live, v_chat, v_action, v_changed) WITH ORDINALITY i (id, fresh, live, chat, act, changed, o)
      JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = chat
      -- What the past has told may have been changed before it came: it reads as it does now.
      LEFT JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = chat AND m.id = coalesce(changed, CASE WHEN live AND NOT fresh THEN i.id END)
     ORDER BY o;
END $$;
