CREATE TABLE IF NOT EXISTS "devotion_checkpoint" (
  name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  cur      TEXT COLLATE "C" NOT NULL,
  writer   TEXT NOT NULL,
  seq      BIGINT NOT NULL,
  saved_at TEXT NOT NULL,
  history  TEXT NOT NULL
)
