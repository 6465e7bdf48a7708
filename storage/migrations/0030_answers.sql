-- migrate:up
-- Answers of many chats in one commit. What hinders one of them hinders no other: the caller asks for that one alone.

-- Of a time zone that is named, and so immutable to its core: only then is it a part of the statements that use it.
CREATE OR REPLACE FUNCTION sidestep.milliseconds(p_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM p_at AT TIME ZONE 'UTC') * 1000)::bigint - 1577836800000;

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

DROP FUNCTION sidestep.answer(bigint, bigint, timestamptz, bigint, bigint[], text[], text[], bigint[], text[], text[], text[], jsonb[], boolean[], bigint[]);

CREATE FUNCTION sidestep.answer(p_tenant bigint, p_chats bigint[], p_now timestamptz[], p_epoch bigint[], p_answers text[],
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
       AND d.event_type IN ('message', 'live') AND d.action_taken IS NULL;
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
COMMENT ON FUNCTION sidestep.answer IS 'Decides the messages of turns, one a chat, and queues their replies in the place of those withdrawn, in one commit, where the chat still has the turn''s epoch. Each turn''s answers are an array''s text. A turn whose chat is not free is left out, unless it is alone. Raises for all where one was decided already or has nothing to withdraw.';
