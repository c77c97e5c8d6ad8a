package xminsource_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// A key pass that one Fetch does not end is not idle: a drain would end without its deletes.
func slowKeyPass(t *testing.T, db *sqlx.DB) {
	db.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 3000) AS n`)
	s := withDeletes(t, db, t.TempDir(), "t", "id")
	_, at := changesOf(t, s, "", 1000)
	db.MustExec(`DELETE FROM t WHERE id = 7`)
	db.MustExec(`VACUUM t`) // otherwise the read prunes the page, and waits until that is on disk
	lock := lab.Begin(t, db, `LOCK TABLE t IN ACCESS EXCLUSIVE MODE`)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lab.WaitFor(t, func() bool { // longer than one Fetch reads keys
			var slow bool
			return db.Get(&slow, `SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '2100 ms' AND datname = current_database()`) == nil && slow
		})
		assert.NoError(t, lock.Commit())
	}()
	got, _ := changesOf(t, s, at, 1000)
	<-done
	require.Equal(t, []string{"delete 7"}, got)
}

// The type of the key changes, so that it does not have a delivered key any more, or has it in another spelling. Each key that
// was delivered and is not in the table any more as it was is deleted, once, and the Source goes on.
func anotherType(t *testing.T, db *sqlx.DB) {
	for name, c := range map[string]struct {
		before, insert, after string
		want                  []string
	}{
		"label":     {`CREATE TYPE e AS ENUM ('a', 'b')`, `e; 'a'; 'b'`, `ALTER TYPE e RENAME VALUE 'a' TO 'c'`, []string{"delete a"}},
		"swap":      {`CREATE TYPE f AS ENUM ('a', 'b'); CREATE TYPE g AS ENUM ('b')`, `f; 'a'; 'b'`, `DELETE FROM x WHERE id = 'a'; ALTER TABLE x ALTER id TYPE g USING id::text::g`, []string{"delete a", "upsert b 0"}},
		"narrow":    {``, `bigint; 1; 5000000000`, `DELETE FROM x WHERE id > 1; ALTER TABLE x ALTER id TYPE int`, []string{"delete 5000000000", "upsert 1 0"}},
		"text":      {``, `text; 'n/a'; '7'; '008'`, `DELETE FROM x WHERE id = 'n/a'; ALTER TABLE x ALTER id TYPE int USING id::int`, []string{"delete 008", "upsert 8 0", "delete n/a", "upsert 7 0", "upsert 8 0"}},
		"uuid":      {``, `text; 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'`, `ALTER TABLE x ALTER id TYPE uuid USING id::uuid`, []string{"delete A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "upsert a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 0", "upsert a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 0"}},
		"float":     {``, `float8; 0.5; 'NaN'`, `DELETE FROM x WHERE id = 'NaN'; ALTER TABLE x ALTER id TYPE numeric`, []string{"delete 0.5", "upsert 0.5 0", "delete NaN", "upsert 0.5 0"}},
		"domain":    {`CREATE DOMAIN d AS int`, `d; 1; -1; -2`, `DELETE FROM x WHERE id = -1; ALTER DOMAIN d ADD CHECK (VALUE > 0) NOT VALID`, []string{"delete -1"}},
		"collation": {`CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`, `text COLLATE ci; 'a'; 'b'`, `UPDATE x SET id = upper(id) WHERE id = 'a'`, []string{"delete a", "upsert A 0", "upsert A 0"}},
	} {
		values := strings.Split(c.insert, "; ")
		db.MustExec(`DROP TABLE IF EXISTS x; ` + c.before)
		db.MustExec(`CREATE TABLE x (id ` + values[0] + ` PRIMARY KEY, v int); INSERT INTO x VALUES (` + strings.Join(values[1:], ", 0), (") + `, 0)`)
		s := withDeletes(t, db, t.TempDir(), "x", "id")
		loaded, at := changesOf(t, s, "", 10)
		require.Len(t, loaded, len(values)-1, name)
		db.MustExec(c.after)
		require.NoError(t, s.Close())
		s = withDeletes(t, db, s.Deletes.Dir, "x", "id")
		got, at := changesOf(t, s, at, 10)
		slices.Sort(got)
		slices.Sort(c.want)
		assert.Equal(t, c.want, got, name)
		got, again := changesOf(t, s, at, 10)
		assert.Empty(t, got, name)
		assert.Equal(t, at, again, "%s: the next key pass finds nothing", name)
		require.NoError(t, s.Close())
	}
}

// Each error that says to start over also says what that needs: rows that were deleted before stay in the copy otherwise.
func anotherHistory(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE y (id int PRIMARY KEY); INSERT INTO y VALUES (1)`)
	s := withDeletes(t, db, t.TempDir(), "y", "id")
	_, at := changesOf(t, s, "", 10)
	db.MustExec(`DROP TABLE y; CREATE TABLE y (id int PRIMARY KEY)`)
	lab.RequirePermanent(t, lab.Refused(t, s, at), "dropped and recreated", "start over with an empty checkpoint", "empty the copy too")
	_, err := s.Fetch(t.Context(), "x", 10)
	lab.RequirePermanent(t, err, "start over with an empty checkpoint", "empty the copy too")
	_, err = sourceOf(db, "y", "id").Fetch(t.Context(), "x", 10)
	require.NotContains(t, err.Error(), "empty the copy too")
}

// The type of the key changes between two Fetches of one Source. The values of a Delete have the new type.
func anotherTypeMeanwhile(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE z (id int PRIMARY KEY, v int); INSERT INTO z SELECT n, 0 FROM generate_series(1, 1500) AS n`) // two pages of keys
	s := withDeletes(t, db, t.TempDir(), "z", "id")
	_, at := changesOf(t, s, "", 1000)
	db.MustExec(`DELETE FROM z WHERE id = 2; ALTER TABLE z ALTER id TYPE text`)
	var got []string
	drain := func() {
		lab.WaitFor(t, func() bool {
			b, err := s.Fetch(t.Context(), at, 1000)
			require.NoError(t, err)
			for _, c := range b.Records {
				got = append(got, c.Op.String()+" "+lab.RowJSON(c.Key))
			}
			at = b.To
			return !b.More && b.Held == nil
		})
	}
	drain()
	assert.Len(t, got, 1500)
	assert.Equal(t, `delete {"id":2}`, got[0], "it was delivered as a number")
	got = nil
	db.MustExec(`DELETE FROM z WHERE id = '3'`)
	drain()
	assert.Equal(t, []string{`delete {"id":"3"}`}, got)
}
