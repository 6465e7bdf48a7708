-- migrate:up
-- Deciding what was recorded, and queueing what is said about it, in one commit.

-- Of whatever kind they are: it came, it came live after all, it asks again now that the bot is back.
CREATE FUNCTION sidestep.decide(p_tenant bigint, p_chat bigint, p_now timestamptz, p_ids bigint[], p_actions text[], p_details text[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_closed bigint[];
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    WITH closed AS (
        UPDATE sidestep.decisions d SET action_taken = i.action, detail = i.detail, decided_at = p_now
          FROM unnest(p_ids, p_actions, p_details) i (id, action, detail)
         WHERE d.tenant_id = p_tenant AND d.chat_id = p_chat AND d.message_id = i.id AND d.action_taken IS NULL
        RETURNING d.message_id)
    SELECT coalesce(array_agg(message_id), '{}') INTO v_closed FROM closed;
    RETURN v_closed;
END $$;
COMMENT ON FUNCTION sidestep.decide IS 'Closes open decisions, each at most once; returns those that this call has closed.';

CREATE FUNCTION sidestep.may_speak(p_tenant bigint, p_chat bigint, p_epoch bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF p_epoch IS NULL THEN
        RETURN true;
    END IF;
    -- Held to the end of the transaction: a takeover comes before this look or after our commit, never in between.
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat AND epoch = p_epoch
        AND NOT is_paused AND NOT is_excluded AND opted_out_at IS NULL FOR SHARE;
    RETURN FOUND AND NOT EXISTS (SELECT FROM sidestep.processing_state WHERE tenant_id = p_tenant AND is_paused);
END $$;
COMMENT ON FUNCTION sidestep.may_speak IS 'The durable fence: whether an answer made under this epoch may still be given.';

CREATE FUNCTION sidestep.enqueue(p_tenant bigint, p_chat bigint, p_now timestamptz, p_epoch bigint, p_is_command_answer boolean, p_answers bigint[],
    p_type text, p_text text, p_media_url text, p_metadata jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
    v_account bigint;
    v_group boolean;
BEGIN
    PERFORM sidestep.ensure_months(p_now, p_now); -- a script may be the first to speak in a month
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    SELECT account_id, is_group INTO STRICT v_account, v_group FROM sidestep.chats WHERE tenant_id = p_tenant AND chat_id = p_chat;
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    PERFORM sidestep.open_threads(p_tenant, ARRAY[p_chat], p_now);
    UPDATE sidestep.chat_state
       SET last_message_id = (greatest(sidestep.milliseconds(p_now), (last_message_id >> 20) + 1) << 20)
                             | (nextval('sidestep.message_sequence') & 1048575), last_message_at = p_now
     WHERE tenant_id = p_tenant AND chat_id = p_chat RETURNING last_message_id INTO STRICT v_id;
    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, is_group, text, media_url, metadata, sent_at)
    SELECT p_tenant, p_chat, v_id, active_thread_id, 'outbound', 'bot', p_type, v_group, p_text, p_media_url, p_metadata, p_now
      FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat;
    INSERT INTO sidestep.outbox (tenant_id, chat_id, id, account_id, epoch, is_command_answer, due_at, answers, queued_at)
    VALUES (p_tenant, p_chat, v_id, v_account, p_epoch, p_is_command_answer, p_now, p_answers, p_now);
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.enqueue IS 'Records one message of ours and queues it, in one commit: it is stored before anything is sent.';

-- Turns --------------------------------------------------------------------------------------------------
-- Answers of many chats in one commit. What hinders one of them hinders no other: the caller asks for that one alone.

CREATE FUNCTION sidestep.take_chats(p_tenant bigint, p_chats bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_taken bigint[];
BEGIN
    IF cardinality(p_chats) = 1 THEN
        p_chats[1] := sidestep.hold_chat(p_tenant, p_chats[1]);
        PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chats[1] FOR NO KEY UPDATE;
        RETURN p_chats;
    END IF;
    SELECT array_agg(chat_id) INTO v_taken
      FROM (SELECT s.chat_id FROM sidestep.chat_state s WHERE s.tenant_id = p_tenant AND s.chat_id = ANY (p_chats)
             ORDER BY s.chat_id FOR NO KEY UPDATE SKIP LOCKED) free;
    RETURN ARRAY(SELECT CASE WHEN c = ANY (v_taken) THEN c END FROM unnest(p_chats) WITH ORDINALITY i (c, o) ORDER BY o);
END $$;
COMMENT ON FUNCTION sidestep.take_chats IS 'Locks chats for a change until the transaction ends. One alone is waited for, and followed where it was merged; of several those that somebody else holds, or that are gone, come back as null.';

CREATE FUNCTION sidestep.withdraw(p_tenant bigint, p_chat bigint, p_ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_number bigint;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    -- The chat before its rows, as a claim locks them.
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = 'answered together with a later message'
     WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = ANY (p_ids) AND status = 'queued';
    GET DIAGNOSTICS v_number = ROW_COUNT;
    IF v_number <> cardinality(p_ids) THEN
        RAISE EXCEPTION 'a reply that was to be withdrawn is no longer queued' USING ERRCODE = 'SS003';
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.withdraw IS 'Cancels replies in whose place another answer comes; raises unless all of them are still queued.';

CREATE FUNCTION sidestep.decide_turns(p_tenant bigint, p_chats bigint[], p_now timestamptz[], p_epoch bigint[], p_answers text[],
    p_turn int[], p_ids bigint[], p_actions text[], p_details text[],
    p_reply_turn int[], p_types text[], p_texts text[], p_media_urls text[], p_metadata jsonb[], p_fenced boolean[],
    p_withdraw_turn int[], p_withdraw bigint[])
RETURNS TABLE (turn int, verdict text, reply_ids bigint[]) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan ROWS 10 AS $$
#variable_conflict use_column
DECLARE
    v_chat bigint[] := sidestep.take_chats(p_tenant, p_chats);
    v_verdict text[];
    v_number bigint;
BEGIN
    -- As may_speak tells, and held to the end of the transaction: a takeover comes before this look or after our commit.
    SELECT array_agg(CASE WHEN i.chat IS NULL THEN NULL
                          WHEN i.epoch IS NULL THEN 'queued'
                          WHEN s.epoch = i.epoch AND NOT s.is_paused AND NOT s.is_excluded AND s.opted_out_at IS NULL AND NOT g.silent THEN 'queued'
                          ELSE 'stale' END ORDER BY i.o) INTO v_verdict
      FROM (SELECT EXISTS (SELECT FROM sidestep.processing_state WHERE tenant_id = p_tenant AND is_paused) AS silent) g,
           unnest(v_chat, p_epoch) WITH ORDINALITY i (chat, epoch, o)
      LEFT JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = i.chat;

    UPDATE sidestep.decisions d SET action_taken = i.action, detail = i.detail, decided_at = p_now[i.turn]
      FROM unnest(p_turn, p_ids, p_actions, p_details) i (turn, id, action, detail)
     WHERE v_verdict[i.turn] = 'queued' AND d.tenant_id = p_tenant AND d.chat_id = v_chat[i.turn] AND d.message_id = i.id
       AND d.action_taken IS NULL;
    GET DIAGNOSTICS v_number = ROW_COUNT;
    IF v_number <> (SELECT count(*) FROM unnest(p_turn) t WHERE v_verdict[t] = 'queued') THEN
        RAISE EXCEPTION 'another process has decided these messages' USING ERRCODE = 'SS002';
    END IF;
    IF cardinality(p_withdraw) > 0 THEN
        PERFORM sidestep.withdraw(p_tenant, v_chat[w.turn], array_agg(w.id))
           FROM unnest(p_withdraw_turn, p_withdraw) w (turn, id) WHERE v_verdict[w.turn] = 'queued' GROUP BY w.turn;
    END IF;

    IF cardinality(p_reply_turn) > 0 THEN
        PERFORM sidestep.ensure_months(min(now), max(now)) FROM unnest(p_now) now; -- a script may be the first to speak in a month
        PERFORM sidestep.open_threads(p_tenant, ARRAY(SELECT v_chat[t] FROM unnest(p_reply_turn) t WHERE v_verdict[t] = 'queued'), p_now[1]);
    END IF;
    RETURN QUERY
    WITH numbered AS MATERIALIZED (
        SELECT r.*, nextval('sidestep.message_sequence') AS n, row_number() OVER (PARTITION BY r.turn ORDER BY r.o) AS nth
          FROM unnest(p_reply_turn, p_types, p_texts, p_media_urls, p_metadata, p_fenced) WITH ORDINALITY
               r (turn, typ, txt, media_url, metadata, fenced, o)
         WHERE v_verdict[r.turn] = 'queued'),
    placed AS MATERIALIZED (
        SELECT r.*, s.chat_id, s.epoch, s.active_thread_id, c.account_id, c.is_group,
               ((greatest(sidestep.milliseconds(p_now[r.turn]), (s.last_message_id >> 20) + 1) + nth - 1) << 20) | (n & 1048575) AS id
          FROM numbered r
          JOIN sidestep.chat_state s ON s.tenant_id = p_tenant AND s.chat_id = v_chat[r.turn]
          JOIN sidestep.chats c ON c.tenant_id = p_tenant AND c.chat_id = s.chat_id),
    said AS (
        INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, is_group, text, media_url, metadata, sent_at)
        SELECT p_tenant, chat_id, id, active_thread_id, 'outbound', 'bot', typ, is_group, txt, media_url, metadata, p_now[turn] FROM placed ORDER BY id),
    queued AS (
        INSERT INTO sidestep.outbox (tenant_id, chat_id, id, account_id, epoch, is_command_answer, due_at, answers, queued_at)
        SELECT p_tenant, chat_id, id, account_id, epoch, NOT fenced, p_now[turn], p_answers[turn]::bigint[], p_now[turn] FROM placed ORDER BY id),
    heads AS (
        UPDATE sidestep.chat_state s SET last_message_id = l.id, last_message_at = l.at
          FROM (SELECT chat_id, max(id) AS id, max(p_now[turn]) AS at FROM placed GROUP BY chat_id) l
         WHERE s.tenant_id = p_tenant AND s.chat_id = l.chat_id)
    SELECT o::int, v, coalesce(p.ids, '{}')
      FROM unnest(v_verdict) WITH ORDINALITY t (v, o)
      LEFT JOIN (SELECT turn, array_agg(id ORDER BY nth) AS ids FROM placed GROUP BY turn) p ON p.turn = t.o
     WHERE v IS NOT NULL;
END $$;
COMMENT ON FUNCTION sidestep.decide_turns IS 'Decides the messages of turns, one a chat, and queues their replies in the place of those withdrawn, in one commit, where the chat still has the turn''s epoch. Each turn''s answers are an array''s text. A turn whose chat is not free is left out, unless it is alone. Raises for all where one was decided already or has nothing to withdraw.';

CREATE FUNCTION sidestep.answer(p_tenant bigint, p_account bigint, p_fence bigint, p_chats bigint[], p_now timestamptz[], p_epoch bigint[], p_answers text[],
    p_turn int[], p_ids bigint[], p_actions text[], p_details text[],
    p_reply_turn int[], p_types text[], p_texts text[], p_media_urls text[], p_metadata jsonb[], p_fenced boolean[],
    p_withdraw_turn int[], p_withdraw bigint[])
RETURNS TABLE (turn int, verdict text, reply_ids bigint[]) LANGUAGE plpgsql ROWS 10 AS $$
BEGIN
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    RETURN QUERY SELECT t.turn, t.verdict, t.reply_ids
      FROM sidestep.decide_turns(p_tenant, p_chats, p_now, p_epoch, p_answers, p_turn, p_ids, p_actions, p_details,
          p_reply_turn, p_types, p_texts, p_media_urls, p_metadata, p_fenced, p_withdraw_turn, p_withdraw) t;
END $$;
COMMENT ON FUNCTION sidestep.answer IS 'decide_turns, for whoever has the account''s lease.';

CREATE FUNCTION sidestep.leave_unanswered(p_tenant bigint, p_account bigint, p_fence bigint, p_chat bigint, p_now timestamptz, p_ids bigint[], p_actions text[], p_details text[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.require_lease(p_tenant, p_account, p_fence);
    RETURN sidestep.decide(p_tenant, p_chat, p_now, p_ids, p_actions, p_details);
END $$;
COMMENT ON FUNCTION sidestep.leave_unanswered IS 'Decides what is still open without an answer, as decide does; for whoever has the account''s lease.';

-- What people say through us -----------------------------------------------------------------------------
-- A person who writes from a program of the business', such as a web page, is a human as on the phone.

CREATE FUNCTION sidestep.speak(p_tenant bigint, p_chat bigint, p_now timestamptz, p_type text, p_text text, p_media_url text, p_metadata jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_action text;
    v_id bigint;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    v_action := sidestep.take_over(p_tenant, p_chat, p_now, p_now);
    v_id := sidestep.enqueue(p_tenant, p_chat, p_now, NULL, false, '{}', p_type, p_text, p_media_url, p_metadata);
    UPDATE sidestep.messages SET author = 'human' WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = v_id;
    UPDATE sidestep.chat_state SET last_human_id = v_id WHERE tenant_id = p_tenant AND chat_id = p_chat;
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, event_type, action_taken, decided_at)
    VALUES (p_tenant, p_chat, v_id, 'message', v_action, p_now);
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.speak IS 'Queues what a person says through us, takes the chat over and decides the message, in one commit.';

-- A command that was typed in a customer's chat is taken back by a message of ours.

CREATE FUNCTION sidestep.take_back(p_tenant bigint, p_chat bigint, p_now timestamptz, p_id bigint, p_external_id text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_id bigint;
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    v_id := sidestep.enqueue(p_tenant, p_chat, p_now, NULL, false, ARRAY[p_id], 'revoke', NULL, NULL, NULL);
    UPDATE sidestep.messages SET reply_to = p_external_id WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = v_id;
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.take_back IS 'Queues the revoke of a message that was written on one of the account''s own devices; returns the id of the revoke.';

CREATE FUNCTION sidestep.taken_back(p_tenant bigint, p_chat bigint, p_id bigint, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    PERFORM sidestep.apply_revoke(p_tenant, p_chat, k.id, p_id, p_at)
       FROM sidestep.messages m
       JOIN sidestep.message_keys k ON k.tenant_id = m.tenant_id AND k.external_id = m.reply_to AND k.chat_id = m.chat_id AND k.from_me
      WHERE m.tenant_id = p_tenant AND m.chat_id = p_chat AND m.id = p_id;
END $$;
COMMENT ON FUNCTION sidestep.taken_back IS 'The platform has taken such a revoke: what it is about is deleted.';
