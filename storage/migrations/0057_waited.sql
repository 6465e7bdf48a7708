-- migrate:up
-- That a message waited for its turn can be told, also after it has left.

ALTER TABLE sidestep.outbox ADD COLUMN waited text;
COMMENT ON COLUMN sidestep.outbox.waited IS 'That it waited for its turn, how long and by which rule; null: it left as soon as it could.';
