package xminsource_test

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestTrees(t *testing.T) {
	t.Parallel()
	_, db := private(t)
	for name, test := range map[string]func(*testing.T, *sqlx.DB){
		"partitions": partitions, "attached while a pass reads": attachedMeanwhile, "the same place in two partitions": samePlace, "inheritance": inheritance, "one key in two tables": oneKeyTwice, "materialized view": materialized, "foreign": foreign, "access method": accessMethod,
	} {
		t.Run(name, func(t *testing.T) {
			db.MustExec(`DROP TABLE IF EXISTS p, old, p1 CASCADE`)
			test(t, db)
		})
	}
}

func partitions(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
		CREATE TABLE p21 PARTITION OF p2 FOR VALUES FROM (10) TO (15);
		CREATE TABLE old (id int PRIMARY KEY, v int); INSERT INTO old VALUES (31, 0), (32, 0)`)
	db.MustExec(`INSERT INTO p VALUES (1, 0), (11, 0), (2, 0)`)
	s := sourceOf(db, "p", "id")
	rows, at, _ := poll(t, s, "")
	assert.Equal(t, pairs(1, 2, 11), rows)
	db.MustExec(`INSERT INTO p VALUES (12, 0), (3, 0); UPDATE p SET v = 0 WHERE id = 2`) // versions at the same places of two partitions
	rows, at, _ = poll(t, s, at)
	assert.Equal(t, pairs(2, 3, 12), rows)
	for n := 1; n <= 3; n++ { // in batches of one
		db.MustExec(`UPDATE p SET v = 0`)
		var got []string
		b, err := lab.Fetch(t, s, at, 1)
		for ; err == nil && b.More; b, err = lab.Fetch(t, s, b.To, 1) {
			for _, c := range b.Records {
				got = append(got, lab.RowJSON(c.Row))
			}
		}
		require.NoError(t, err)
		for _, c := range b.Records {
			got = append(got, lab.RowJSON(c.Row))
		}
		at = b.To
		assert.Equal(t, pairs(1, 2, 3, 11, 12), got)
	}
	db.MustExec(`CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (30)`)
	rows, at, _ = poll(t, s, at)
	assert.Empty(t, rows)
	db.MustExec(`INSERT INTO p VALUES (21, 0)`)
	rows, at, _ = poll(t, s, at)
	assert.Equal(t, pairs(21), rows)
	db.MustExec(`ALTER TABLE p ATTACH PARTITION old FOR VALUES FROM (30) TO (40); UPDATE p SET v = 0 WHERE id = 1`)
	rows, at, _ = poll(t, s, at)
	assert.Equal(t, pairs(1, 31, 32), rows, "the rows of an attached partition are older than the cursor")
	db.MustExec(`CREATE TABLE p22 PARTITION OF p2 FOR VALUES FROM (15) TO (20); INSERT INTO p VALUES (16, 0); UPDATE p SET id = 17 WHERE id = 31`)
	rows, at, _ = poll(t, s, at)
	assert.Equal(t, pairs(16, 17), rows)
	db.MustExec(`ALTER TABLE p DETACH PARTITION p1`)
	db.MustExec(`VACUUM (FREEZE) pg_inherits`)
	rows, at, _ = poll(t, s, at)
	assert.Empty(t, rows)
	open := lab.Begin(t, db, `ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10)`)
	require.NoError(t, open.Commit())
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(1, 2, 3), rows)
}

// All rows of a partition that is attached after X1 was fixed belong to the next pass.
func attachedMeanwhile(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
		CREATE TABLE old (id int PRIMARY KEY, v int); INSERT INTO old VALUES (11, 0); INSERT INTO p VALUES (1, 0)`)
	s := sourceOf(db, "p", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`INSERT INTO p VALUES (2, 0), (3, 0)`)
	db.MustExec(`INSERT INTO old VALUES (12, 0)`)
	b, err := lab.Fetch(t, s, at, 1)
	require.NoError(t, err)
	require.True(t, b.More)
	db.MustExec(`ALTER TABLE p ATTACH PARTITION old FOR VALUES FROM (10) TO (20)`)
	rows, at, _ := poll(t, s, b.To)
	assert.Equal(t, pairs(2, 3), rows[:2])
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(11, 12), rows)
}

// A version of another partition, at the place of a removed one, has a greater key.
func samePlace(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)`)
	s := sourceOf(db, "p", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`INSERT INTO p VALUES (1, 0), (2, 0), (3, 0), (11, 0), (12, 0)`)
	begun, err := lab.Fetch(t, s, at, 2)
	require.NoError(t, err)
	db.MustExec(`DELETE FROM p WHERE id = 1`)
	b, err := lab.Fetch(t, s, begun.To, 2)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	rows, _, _ := poll(t, s, b.To)
	assert.Equal(t, pairs(3, 11, 12), rows)
}

func inheritance(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int PRIMARY KEY, v int); CREATE TABLE c1 (more text) INHERITS (p); CREATE TABLE old (id int PRIMARY KEY, v int); INSERT INTO old VALUES (9, 0)`)
	db.MustExec(`INSERT INTO p VALUES (1, 0); INSERT INTO c1 VALUES (2, 0, 'x')`)
	s := sourceOf(db, "p", "id")
	rows, at, _ := poll(t, s, "")
	assert.Equal(t, pairs(1, 2), rows)
	db.MustExec(`ALTER TABLE old INHERIT p; UPDATE c1 SET v = 0`)
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(2, 9), rows)
	db.MustExec(`DROP TABLE p CASCADE`)
}

// A key is unique in each of the two tables, and not in both together. The second row of a key is not in the batch of the first.
func oneKeyTwice(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int PRIMARY KEY, v int); CREATE TABLE c1 () INHERITS (p)`)
	s := sourceOf(db, "p", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`INSERT INTO p SELECT n, 0 FROM generate_series(1, 4) AS n; INSERT INTO c1 VALUES (4, 1), (5, 0)`)
	_, err := s.Fetch(t.Context(), at, 4)
	lab.RequirePermanent(t, err, "two rows have the same key", "inherit")
	db.MustExec(`DELETE FROM c1 WHERE id = 4`)
	rows, at, _ := poll(t, s, at)
	assert.Equal(t, pairs(1, 2, 3, 4, 5), rows)
	// Since Postgres 18 a child has the NOT NULL of its parent's key for good.
	db.MustExec(`DO $$ BEGIN ALTER TABLE c1 ALTER id DROP NOT NULL; EXCEPTION WHEN invalid_table_definition THEN NULL; END $$`)
	db.MustExec(`INSERT INTO c1 VALUES (6, 0); INSERT INTO p VALUES (7, 0)`)
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(6, 7), rows)
	db.MustExec(`CREATE TABLE old (a int, b int, v int, UNIQUE (a, b)); INSERT INTO old VALUES (1, 1, 0)`)
	s = sourceOf(db, "old", "a", "b")
	_, at, _ = poll(t, s, "")
	db.MustExec(`INSERT INTO old VALUES (1, 2, 0), (1, NULL, 0)`)
	_, err = s.Fetch(t.Context(), at, 1)
	lab.RequirePermanent(t, err, "a column of the key is NULL")
	db.MustExec(`DROP TABLE p CASCADE`)
}

func materialized(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int PRIMARY KEY, v int); INSERT INTO p VALUES (1, 0), (2, 0); CREATE MATERIALIZED VIEW m AS SELECT * FROM p; CREATE UNIQUE INDEX ON m (id)`)
	s := sourceOf(db, "m", "id")
	rows, at, _ := poll(t, s, "")
	assert.Equal(t, pairs(1, 2), rows)
	db.MustExec(`UPDATE p SET v = 1 WHERE id = 2`)
	db.MustExec(`REFRESH MATERIALIZED VIEW CONCURRENTLY m`)
	rows, at, _ = poll(t, s, at)
	assert.Equal(t, []string{`{"id":2,"v":1}`}, rows)
	db.MustExec(`REFRESH MATERIALIZED VIEW m`)
	rows, _, _ = poll(t, s, at)
	assert.Len(t, rows, 2, "it writes all rows again")
}

func foreign(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE TABLE p (id int, v int) PARTITION BY RANGE (id); CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
		CREATE FOREIGN TABLE f PARTITION OF p FOR VALUES FROM (0) TO (10) SERVER files OPTIONS (filename '/dev/null')`)
	_, err := sourceOf(db, "f", "id").Fetch(t.Context(), "", 1)
	lab.RequirePermanent(t, err, "it is a foreign table")
	_, err = sourceOf(db, "p", "id").Fetch(t.Context(), "", 1)
	lab.RequirePermanent(t, err, "the partition f is a foreign table", "diffsource")
}

// A partition can come with another access method while the source runs.
func accessMethod(t *testing.T, db *sqlx.DB) {
	db.MustExec(`CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
		CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)`)
	s := sourceOf(db, "p", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) USING other; INSERT INTO p VALUES (11, 0)`)
	_, err := s.Fetch(t.Context(), at, 1)
	lab.RequirePermanent(t, err, "the access method of the partition p2 is other")
	db.MustExec(`DROP TABLE p2; INSERT INTO p VALUES (1, 0)`)
	rows, _, _ := poll(t, s, at)
	assert.Equal(t, pairs(1), rows)
}

// A policy can show a row only later.
func TestRowSecurity(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(`CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON t USING (true)`)
	db.MustExec(`DROP ROLE IF EXISTS xmin_reader; CREATE ROLE xmin_reader LOGIN PASSWORD 'secret'; GRANT SELECT ON t TO xmin_reader`)
	plain := database.WithUser("xmin_reader", "secret").Open(t, dbtest.PQ)
	_, err := sourceOf(plain, "t", "id").Fetch(t.Context(), "", 1)
	lab.RequirePermanent(t, err, "row-level security applies")
	db.MustExec(`ALTER TABLE t DISABLE ROW LEVEL SECURITY; INSERT INTO t VALUES (1)`)
	s := sourceOf(plain, "t", "id")
	rows, at := await(t, s, "", 1) // SELECT is enough
	assert.Equal(t, []string{`{"id":1}`}, rows)
	db.MustExec(`INSERT INTO t VALUES (2); ALTER TABLE t ENABLE ROW LEVEL SECURITY`) // while the source runs
	lab.WaitFor(t, func() bool { _, err = s.Fetch(t.Context(), at, 1); return err != nil })
	lab.RequirePermanent(t, err, "row-level security applies")
	db.MustExec(`ALTER TABLE t DISABLE ROW LEVEL SECURITY`)
	rows, _ = await(t, s, at, 1)
	assert.Equal(t, []string{`{"id":2}`}, rows)
	plain.Close()
	db.MustExec(`DROP OWNED BY xmin_reader; DROP ROLE xmin_reader`)
}
