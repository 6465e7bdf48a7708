-- migrate:up
-- What became of customers' messages while the bot was silent, or was not there: resume_mode decides. A message that nobody
-- has answered asks again when the bot is back, as an event of its own beside the first, whose decision stands.

ALTER TABLE sidestep.tenants ADD COLUMN resume_mode text CHECK (resume_mode IN ('from_last', 'from_now'));
COMMENT ON COLUMN sidestep.tenants.resume_mode IS 'What becomes of unanswered messages. from_last: they are answered, after a pause and after a restart; from_now: they are left. Null: from_now after a pause, from_last after a restart.';

-- It comes with a face that need not be there yet.
ALTER TABLE sidestep.chat_state ADD COLUMN IF NOT EXISTS resume_mode text NOT NULL DEFAULT 'from_last' CHECK (resume_mode IN ('from_last', 'from_now'));
COMMENT ON COLUMN sidestep.chat_state.resume_mode IS 'from_now: what nobody has answered here is left, whatever the tenant says; from_last: it goes by the tenant''s.';

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
           AND m.id > coalesce(OLD.last_human_id, 0) -- what came before the human's last line is the human's
           AND m.id >= sidestep.id_floor(OLD.last_message_at - interval '2 days')
           AND (SELECT d.action_taken FROM sidestep.decisions d
                 WHERE d.tenant_id = m.tenant_id AND d.chat_id = m.chat_id AND d.message_id = m.id AND d.event_type <> 'repeat' AND d.event_type NOT LIKE 'clock:%'
                 ORDER BY d.decided_at DESC NULLS FIRST LIMIT 1) = 'ignored_paused';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.reopen_backlog IS 'A pause has ended: where resume_mode is from_last, what customers wrote in it and no human has answered since asks once more.';
CREATE TRIGGER reopen_backlog AFTER UPDATE OF is_paused ON sidestep.chat_state FOR EACH ROW
    WHEN (OLD.is_paused AND NOT NEW.is_paused) EXECUTE FUNCTION sidestep.reopen_backlog();
COMMENT ON COLUMN sidestep.decisions.event_type IS 'message; live: it came, after the past had told of it; repeat: it came again; clock:epoch: the time brought the bot back; back:epoch: the bot was back, and nobody had answered it.';

-- Whatever decides events decides those that are open, of each of these kinds.
DO $$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN
        SELECT oid FROM pg_proc
         WHERE pronamespace = 'sidestep'::regnamespace AND prosrc ~ 'event_type IN \(''message'', ''live''\) AND (d\.)?action_taken IS NULL'
    LOOP
        EXECUTE regexp_replace(pg_get_functiondef(v_function), '(d\.)?event_type IN \(''message'', ''live''\) AND ((d\.)?action_taken IS NULL)', '\2', 'g');
    END LOOP;
END $$;
