-- migrate:up
-- An export that was imported before its number was linked has told what the phone's history then tells under WhatsApp's ids.

CREATE FUNCTION sidestep.content_key(p_type text, p_text text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_type IN ('location', 'contact', 'poll', 'system') THEN p_type
            ELSE CASE WHEN p_type IN ('image', 'video', 'audio', 'document', 'sticker', 'unknown') THEN 'medium ' ELSE 'text ' END
                 || btrim(translate(coalesce(p_text, ''), U&'\061C\200E\200F\202A\202B\202C\202D\202E\2066\2067\2068\2069\FEFF', ''), E' \n\t\r')
       END;
COMMENT ON FUNCTION sidestep.content_key IS 'What a message says, without what one way of telling it has and another has not: the kind of a file, marks of direction.';

CREATE FUNCTION sidestep.adopt_imports(p_tenant bigint, p_account bigint, p_channel text, p_jid text[], p_external_id text[], p_author text[],
    p_type text[], p_is_group boolean[], p_text text[], p_sent_at timestamptz[], p_raw text[])
RETURNS int LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_number int;
BEGIN
    WITH told AS MATERIALIZED (
        SELECT a.chat_id, i.ext, i.author = 'human' AS from_me, i.typ, i.raw, date_trunc('minute', i.at) AS minute,
               sidestep.content_key(i.typ, i.txt) AS content, i.o
          FROM unnest(p_jid, p_external_id, p_author, p_type, p_is_group, p_text, p_sent_at, p_raw) WITH ORDINALITY
               i (jid, ext, author, typ, grp, txt, at, raw, o)
          JOIN sidestep.chat_aliases a
            ON a.tenant_id = p_tenant AND a.account_id = p_account AND a.channel = p_channel AND a.jid = i.jid
         -- In groups an export knows people by names, the phone by addresses: nobody can tell whether they are the same.
         WHERE NOT i.grp AND NOT sidestep.is_change(i.typ)
           AND NOT EXISTS (SELECT FROM sidestep.message_keys k
                            WHERE k.tenant_id = p_tenant AND k.external_id = i.ext AND k.chat_id = a.chat_id)),
    here AS MATERIALIZED (
        SELECT m.chat_id, m.id, m.direction = 'outbound' AS from_me, t.minute, sidestep.content_key(m.type, m.text) AS content
          FROM (SELECT DISTINCT chat_id, minute FROM told) t
          JOIN sidestep.messages m ON m.tenant_id = p_tenant AND m.chat_id = t.chat_id -- what was imported has the id of its time
           AND m.id >= sidestep.id_floor(t.minute) AND m.id < sidestep.id_floor(t.minute + interval '1 minute')
         WHERE starts_with(m.external_id, 'import-') AND NOT sidestep.is_change(m.type)),
    paired AS MATERIALIZED (
        SELECT chat_id, from_me, t.ext, t.typ, t.raw, h.id
          FROM (SELECT *, row_number() OVER (PARTITION BY chat_id, from_me, content, minute ORDER BY o) AS n FROM told) t
          JOIN (SELECT *, row_number() OVER (PARTITION BY chat_id, from_me, content, minute ORDER BY id) AS n FROM here) h
         USING (chat_id, from_me, content, minute, n)),
    keyed AS (
        INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, id)
        SELECT p_tenant, chat_id, ext, from_me, id FROM paired ON CONFLICT DO NOTHING),
    kept AS (
        INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw)
        SELECT p_tenant, chat_id, id, raw::jsonb FROM paired WHERE raw IS NOT NULL ON CONFLICT DO NOTHING)
    UPDATE sidestep.messages m SET external_id = p.ext, type = CASE WHEN m.type = 'unknown' THEN p.typ ELSE m.type END
      FROM paired p WHERE m.tenant_id = p_tenant AND m.chat_id = p.chat_id AND m.id = p.id;
    GET DIAGNOSTICS v_number = ROW_COUNT;
    RETURN v_number;
END $$;
COMMENT ON FUNCTION sidestep.adopt_imports IS 'Gives imported messages the ids under which the past tells them, by minute, side and words, so that it does not record them again. Returns how many.';
