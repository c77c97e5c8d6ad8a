package ceiling

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Ceiling{
		"auto": Auto{}, "lock-fence": LockFence{}, "transaction-id": TransactionID{}, "dirty-probe": DirtyProbe{},
		"single-writer": SingleWriter{}, "stamp": Stamp{}, "none": None{},
		"grace=30s": Grace{For: 30 * time.Second}, "lag=5m": Lag{By: 5 * time.Minute}, "lag=1h0m0.5s": Lag{By: time.Hour + 500*time.Millisecond},
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := Parse(got.String())
		require.NoError(t, err, "its own name: %s", got)
		require.Equal(t, want, again)
	}
	for _, text := range []string{"", "Auto", "lockfence", "lock-fence=1s", "none=", "grace", "grace=", "grace=30", "grace=0s", "grace=-1s", "lag=x", "lag =5m", " auto"} {
		c, err := Parse(text)
		require.Nil(t, c, text)
		require.ErrorContains(t, err, "ceiling: ", text)
		require.ErrorContains(t, err, "want ", text)
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	for fix, want := range map[string][]string{
		"":                           nil,
		"read from the primary":      {"read from the primary"},
		"ALTER SEQUENCE s CACHE 1":   {"ALTER SEQUENCE s CACHE 1;"},
		`ALTER SEQUENCE "a; b" OF x`: {`ALTER SEQUENCE "a; b" OF x;`},
		`ALTER TABLE t ADD x xid8; CREATE INDEX ON t (x); and then Key x, id`:  {"ALTER TABLE t ADD x xid8;", "CREATE INDEX ON t (x);", "and then Key x, id"},
		"the table's own; that isn't; or ALTER TABLE t ADD x text DEFAULT ';'": {"the table's own", "that isn't", "or", "ALTER TABLE t ADD x text DEFAULT ';';"},
		"ALTER TABLE `a;b` ENGINE=InnoDB":                                      {"ALTER TABLE `a;b` ENGINE=InnoDB;"},
		stampTrigger(Table{Name: `"t"`}, "at"): {
			`CREATE FUNCTION set_stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := clock_timestamp(); RETURN NEW; END $$;`,
			`CREATE TRIGGER set_stamp BEFORE INSERT OR UPDATE ON "t" FOR EACH ROW EXECUTE FUNCTION set_stamp();`,
		},
		"BEGIN IMMEDIATE; CREATE TRIGGER a AFTER INSERT ON t BEGIN UPDATE c SET n = 1; UPDATE t SET v = 2; END; CREATE TRIGGER b AFTER UPDATE ON t WHEN NEW.v = ';' BEGIN UPDATE t SET v = 3; END; COMMIT; and then Key v": {
			"BEGIN IMMEDIATE;", "CREATE TRIGGER a AFTER INSERT ON t BEGIN UPDATE c SET n = 1; UPDATE t SET v = 2; END;",
			"CREATE TRIGGER b AFTER UPDATE ON t WHEN NEW.v = ';' BEGIN UPDATE t SET v = 3; END;", "COMMIT;", "and then Key v",
		},
	} {
		require.Equal(t, want, Finding{Fix: fix}.Steps(), fix)
	}
}
