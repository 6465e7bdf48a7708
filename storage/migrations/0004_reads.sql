-- migrate:up
-- What reading needs beside the keys: indexes of their own for a few questions, and the index of words for search.
-- None of them is in the way of an update that is HOT; what a message without media, quote or command does not need
-- costs it nothing.

-- Few messages have one of these.
CREATE INDEX messages_media ON sidestep.messages (tenant_id, chat_id, id)
    WHERE media_url IS NOT NULL OR type IN ('image', 'video', 'audio', 'document', 'sticker');
CREATE INDEX messages_quote ON sidestep.messages (tenant_id, chat_id, reply_to) WHERE reply_to IS NOT NULL;
CREATE INDEX messages_command ON sidestep.messages (tenant_id, id) WHERE command IS NOT NULL;
-- With the id, so that a person's newest in all groups are read, and no others.
DROP INDEX sidestep.messages_group_sender;
CREATE INDEX messages_group_sender ON sidestep.messages (tenant_id, sender_id, id) WHERE is_group;
CREATE INDEX chats_contact ON sidestep.chats (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX outbox_failed ON sidestep.outbox (tenant_id, id) WHERE failed_at IS NOT NULL;

-- The day, not the moment: its index is touched once a day, so that a chat's row stays HOT.
ALTER TABLE sidestep.chat_state
    ADD COLUMN active_day int NOT NULL GENERATED ALWAYS AS (((last_message_id >> 20) / 86400000)::int) STORED;
CREATE INDEX chat_state_active ON sidestep.chat_state (tenant_id, active_day);
COMMENT ON COLUMN sidestep.chat_state.active_day IS 'The day of the newest message, counted from 2020: which chats were active last is read by it.';

-- Words ---------------------------------------------------------------------------------------------------
-- No language is assumed: no stems, no stop words. Case is folded, and accents, if the extension can be had; a
-- database's owner may create it, where the server has it.

CREATE TEXT SEARCH CONFIGURATION sidestep.words (COPY = pg_catalog.simple);
COMMENT ON TEXT SEARCH CONFIGURATION sidestep.words IS 'Words of any language, as they are written; without accents where the extension unaccent is.';

DO $$
DECLARE
    v_schema name;
BEGIN
    BEGIN
        CREATE EXTENSION IF NOT EXISTS unaccent;
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file OR invalid_schema_name THEN
        RAISE WARNING 'search will tell accents apart: the extension unaccent cannot be created here (%)', SQLERRM;
    END;
    SELECT n.nspname INTO v_schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'unaccent';
    IF FOUND THEN
        EXECUTE format('ALTER TEXT SEARCH CONFIGURATION sidestep.words ALTER MAPPING FOR asciiword, word, numword, asciihword, hword, '
                       'numhword, hword_asciipart, hword_part, hword_numpart WITH %I.unaccent, pg_catalog.simple', v_schema);
    END IF;
END $$;

CREATE FUNCTION sidestep.folds_accents() RETURNS boolean LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM pg_ts_config_map m JOIN pg_ts_dict d ON d.oid = m.mapdict
                WHERE m.mapcfg = 'sidestep.words'::regconfig AND d.dictname = 'unaccent');
COMMENT ON FUNCTION sidestep.folds_accents IS 'Whether search finds "acao" in "ação": false where the extension unaccent could not be had.';

CREATE FUNCTION sidestep.spaced(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN octet_length(p_text) = char_length(p_text) THEN p_text ELSE regexp_replace(p_text,
    '([\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\U00020000-\U0003FFFF'
    '\u0080-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u060C\u061B\u061F\u0964\u0965\u2000-\u2BFF\u3000-\u303F\U0001F000-\U0001FAFF])',
    E'\x1f\\1\x1f', 'g') END;
COMMENT ON FUNCTION sidestep.spaced IS 'The text with a separator around each sign that is no part of a longer word, for excerpts.';

CREATE FUNCTION sidestep.searchable(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    -- Most texts are ASCII, or have letters of Europe beside, and need none of what follows.
    WHEN octet_length(p_text) = char_length(p_text) THEN p_text
    WHEN p_text !~ '[^\u0001-\u007F\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u024F\u0386\u0388-\u03FF\u0400-\u0481\u048A-\u052F]' THEN p_text
    -- Marks over letters go (a precomposed letter's accent is unaccent's to take). Scripts that do not part their words
    -- are found by phrases of their signs. And where the server knows only ASCII's signs from letters, "¿" must not stick to a word.
    ELSE regexp_replace(regexp_replace(normalize(p_text, NFKC),
        '[\u0300-\u036F\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0610-\u061A\u064B-\u065F\u0670\uFE00-\uFE0F]+', '', 'g'),
        '([\u0E00-\u0EFF\u1000-\u109F\u1780-\u17FF\u3040-\u30FF\u3400-\u4DBF\u4E00-\u9FFF\uF900-\uFAFF\U00020000-\U0003FFFF])'
        '|[\u0080-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u060C\u061B\u061F\u0964\u0965\u2000-\u2BFF\u3000-\u303F\U0001F000-\U0001FAFF]',
        E'\x1f\\1\x1f', 'g') END;
COMMENT ON FUNCTION sidestep.searchable IS 'What of a text is searched: its words, parted.';

CREATE FUNCTION sidestep.search_vector(p_tenant bigint, p_chat bigint, p_text text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Words are folded to small letters, so that no word is a T or C; and a vector has its limits, which no message may meet.
RETURN array_to_tsvector(ARRAY['T' || p_tenant::text, 'C' || p_chat::text])
       || to_tsvector('sidestep.words', sidestep.searchable("left"(p_text, 65536)));
COMMENT ON FUNCTION sidestep.search_vector IS 'A message''s words, with its tenant and its chat among them: the index itself keeps them apart.';

CREATE INDEX messages_words ON sidestep.messages USING gin (sidestep.search_vector(tenant_id, chat_id, text)) WHERE text IS NOT NULL;

CREATE FUNCTION sidestep.search_query(p_text text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_found text[];
    v_term tsquery;
    v_last tsquery;
    v_all tsquery := ''::tsquery;
    v_either boolean := false;
    v_wanted boolean := false;
BEGIN
    FOR v_found IN SELECT regexp_matches("left"(p_text, 500), '(-?)(?:"([^"]*)"?|([^\s"]+))', 'g') LOOP
        IF v_found[3] = 'OR' THEN
            v_either := v_last IS NOT NULL;
            CONTINUE;
        END IF;
        v_term := phraseto_tsquery('sidestep.words', sidestep.searchable(coalesce(v_found[2], v_found[3])));
        CONTINUE WHEN numnode(v_term) = 0;
        IF v_found[3] LIKE '%*' THEN
            v_term := (v_term::text || ':*')::tsquery;
        END IF;
        IF v_found[1] = '-' THEN
            v_all := v_all && !! v_term;
        ELSIF v_either THEN
            v_last := v_last || v_term;
        ELSE
            v_all := v_all && coalesce(v_last, ''::tsquery);
            v_last := v_term;
        END IF;
        v_wanted := v_wanted OR v_found[1] = '';
        v_either := false;
    END LOOP;
    RETURN CASE WHEN v_wanted THEN v_all && v_last END;
END $$;
COMMENT ON FUNCTION sidestep.search_query IS 'What people type: words (all of them), "a phrase", -without, one OR other, begin*. Null: nothing is asked for.';

CREATE FUNCTION sidestep.message_months() RETURNS TABLE (part regclass, first_id bigint, end_id bigint) LANGUAGE sql STABLE AS $$
    SELECT c.oid::regclass, b.bounds[1]::bigint, b.bounds[2]::bigint
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
           LATERAL (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?(-?\d+)''?\) TO \(''?(-?\d+)''?\)') AS bounds) b
     WHERE i.inhparent = 'sidestep.messages'::regclass AND b.bounds IS NOT NULL
     ORDER BY 2
$$;
COMMENT ON FUNCTION sidestep.message_months IS 'The months that there are, with their span of ids, the end excluded; oldest first.';

CREATE FUNCTION sidestep.search(p_tenant bigint, p_chat bigint, p_text text, p_without bigint[], p_from bigint, p_before bigint, p_limit int)
RETURNS TABLE (chat_id bigint, id bigint, marked text) LANGUAGE plpgsql STABLE ROWS 50
    -- A month at a time, newest first, each by the index of words: one query over all of them takes seconds for a rare
    -- word, when the planner hopes to meet it soon on the way back in time.
    SET enable_seqscan = off SET enable_indexscan = off SET enable_indexonlyscan = off AS $$
DECLARE
    v_words tsquery := sidestep.search_query(p_text);
    v_query tsquery := v_words && quote_literal(coalesce('C' || p_chat, 'T' || p_tenant))::tsquery;
    v_left int := p_limit;
    v_found int;
    v_month record;
BEGIN
    IF v_query IS NULL THEN
        RETURN;
    END IF;
    FOR v_month IN SELECT m.part FROM sidestep.message_months() m WHERE m.first_id < p_before AND m.end_id > p_from ORDER BY m.first_id DESC LOOP
        -- The "+ 0" keep every other index out. What was never said is no find; it is looked at in the order of the ids.
        RETURN QUERY EXECUTE format($month$
            SELECT x.chat_id, x.id, ts_headline('sidestep.words', sidestep.spaced(translate("left"(x.text, 65536), E'\x02\x03\x1f', '')), $2,
                                                E'HighlightAll=true, StartSel="\x02", StopSel="\x03"')
              FROM (SELECT m.chat_id, m.id, m.text, m.author FROM %s m
                     WHERE sidestep.search_vector(m.tenant_id, m.chat_id, m.text) @@ $1 AND m.text IS NOT NULL
                       AND m.tenant_id + 0 = $3 AND m.id + 0 < $4 AND m.id + 0 >= $5
                       AND m.deleted_at IS NULL AND NOT sidestep.is_change(m.type) AND m.command IS NULL AND m.chat_id + 0 <> ALL ($7)
                     ORDER BY m.id DESC) x
             WHERE x.author <> 'bot' OR coalesce((SELECT o.status FROM sidestep.outbox o
                     WHERE o.tenant_id = $3 AND o.chat_id = x.chat_id AND o.id = x.id), '') <> 'cancelled'
             LIMIT $6$month$, v_month.part)
            USING v_query, v_words, p_tenant, p_before, p_from, v_left, p_without;
        GET DIAGNOSTICS v_found = ROW_COUNT;
        v_left := v_left - v_found;
        EXIT WHEN v_left <= 0;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.search IS 'Messages with these words, newest first, in one chat or (null) in all of a tenant''s but some: as they read now, without what was deleted, and without commands. In what is marked the words stand between \x02 and \x03.';
