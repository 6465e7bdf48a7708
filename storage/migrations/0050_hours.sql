-- migrate:up
-- When a business is there: its time zone, its hours, and whom it has told that it is closed.

ALTER TABLE sidestep.tenants ADD COLUMN timezone text NOT NULL DEFAULT 'UTC';
COMMENT ON COLUMN sidestep.tenants.timezone IS 'IANA name of the zone in which times of day are said and meant; an unknown one is taken for UTC.';
ALTER TABLE sidestep.tenants ADD COLUMN hours jsonb;
COMMENT ON COLUMN sidestep.tenants.hours IS 'Business hours, holidays and the away message; null: always open.';

ALTER TABLE sidestep.chat_state ADD COLUMN away_until timestamptz;
COMMENT ON COLUMN sidestep.chat_state.away_until IS 'Until then the customer need not be told again that the business is closed.';
