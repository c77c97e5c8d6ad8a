package xminsource_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// private returns a database on a separate server: the transactions of other tests would hold rows back.
func private(t *testing.T, opts ...dbtest.Option) (*dbtest.Server, *sqlx.DB) {
	server := dbtest.StartPostgres(t, opts...)
	db := server.NewDatabase(t).Open(t, dbtest.PGX)
	db.MustExec(`CREATE TABLE t (id int PRIMARY KEY, v int)`)
	return server, db
}

func pairs(ids ...int) (rows []string) {
	for _, id := range ids {
		rows = append(rows, fmt.Sprintf(`{"id":%d,"v":0}`, id))
	}
	return rows
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	server, db := private(t)
	for name, attack := range map[string]func(*testing.T, *sqlx.DB){
		"savepoints": savepoints, "a subtransaction above X1": lateSavepoint, "prepared": prepared, "multixacts": multixacts,
		"rewrites that keep ids": keptIDs, "a place is used again": usedAgain, "copy freeze": copyFreeze, "a rewrite": rewrite, "another database": func(t *testing.T, db *sqlx.DB) { anotherDatabase(t, db, server) },
	} {
		t.Run(name, func(t *testing.T) { // one after the other: a transaction of one holds back the others
			db.MustExec(`TRUNCATE t`)
			attack(t, db)
		})
	}
}

// A row under a savepoint has the id of the subtransaction, which looks ended in a snapshot.
func savepoints(t *testing.T, db *sqlx.DB) {
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	open := lab.Begin(t, db, `INSERT INTO t VALUES (1, 0)`, `SAVEPOINT a`, `INSERT INTO t VALUES (2, 0)`, `RELEASE a`, `SAVEPOINT b`, `INSERT INTO t VALUES (3, 0)`)
	db.MustExec(`INSERT INTO t VALUES (4, 0)`)
	rows, at, held := poll(t, s, at)
	assert.Empty(t, rows)
	require.NotNil(t, held)
	assert.Contains(t, held.By[0], "pid ")
	require.NoError(t, open.Commit())
	rows, _, held = poll(t, s, at)
	assert.Equal(t, pairs(1, 2, 3, 4), rows)
	assert.Nil(t, held)
}

// A committed transaction below X1 can have a subtransaction above it. Its row comes in the next pass.
func lateSavepoint(t *testing.T, db *sqlx.DB) {
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	first := lab.Begin(t, db, `INSERT INTO t VALUES (1, 0)`)
	second := lab.Begin(t, db, `INSERT INTO t VALUES (2, 0)`)
	_, err := first.Exec(`SAVEPOINT a; INSERT INTO t VALUES (3, 0)`)
	require.NoError(t, err)
	require.NoError(t, first.Commit())
	rows, at, held := poll(t, s, at)
	assert.Equal(t, pairs(1), rows)
	assert.NotNil(t, held)
	require.NoError(t, second.Commit())
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(2, 3), rows)
}

func prepared(t *testing.T, db *sqlx.DB) {
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`BEGIN; INSERT INTO t VALUES (1, 0); PREPARE TRANSACTION 'order 1'`)
	db.MustExec(`INSERT INTO t VALUES (2, 0)`)
	rows, at, held := poll(t, s, at)
	assert.Empty(t, rows)
	require.NotNil(t, held)
	assert.Contains(t, held.By[0], `prepared transaction "order 1"`)
	db.MustExec(`COMMIT PREPARED 'order 1'`)
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(1, 2), rows)
}

// Row locks change xmax alone, also those of several transactions together.
func multixacts(t *testing.T, db *sqlx.DB) {
	db.MustExec(`INSERT INTO t VALUES (1, 0), (2, 0)`)
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	a := lab.Begin(t, db, `SELECT FROM t WHERE id = 1 FOR SHARE`)
	b := lab.Begin(t, db, `SELECT FROM t WHERE id = 1 FOR KEY SHARE`)
	_, err := b.Exec(`UPDATE t SET v = 0 WHERE id = 2`)
	require.NoError(t, err)
	require.NoError(t, a.Commit())
	require.NoError(t, b.Commit())
	rows, at, _ := poll(t, s, at)
	assert.Equal(t, pairs(2), rows)
	c := lab.Begin(t, db, `SELECT FROM t FOR KEY SHARE`)
	db.MustExec(`UPDATE t SET v = 0 WHERE id = 1`) // while the row is locked
	require.NoError(t, c.Commit())
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, pairs(1), rows)
}

func keptIDs(t *testing.T, db *sqlx.DB) {
	db.MustExec(`INSERT INTO t SELECT n, 0 FROM generate_series(1, 1000) AS n`)
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	for _, statement := range []string{`VACUUM (FREEZE) t`, `VACUUM (FULL, FREEZE) t`, `CLUSTER t USING t_pkey`, `REINDEX TABLE t`, `ALTER TABLE t SET (fillfactor = 50)`, `VACUUM FULL t`} {
		db.MustExec(statement)
		rows, to, _ := poll(t, s, at)
		assert.Empty(t, rows, statement)
		at = to
	}
	db.MustExec(`DELETE FROM t WHERE id % 2 = 0`)
	db.MustExec(`UPDATE t SET v = 0`)
	b, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	require.True(t, b.More)
	at = b.To
	var got []string
	for i := 0; b.More; i++ { // versions move to other places while the pass reads
		db.MustExec([]string{`VACUUM FULL t`, `VACUUM t`, `CLUSTER t USING t_pkey`, `VACUUM (FREEZE) t`}[i%4])
		if i%7 == 0 {
			s = sourceOf(db, "t", "id")
		}
		b, err = lab.Fetch(t, s, at, 33)
		require.NoError(t, err)
		for _, c := range b.Records {
			got = append(got, c.Key.Text(0))
		}
		at = b.To
	}
	require.Len(t, got, 500)
	for i, id := range got {
		assert.Equal(t, fmt.Sprint(2*i+1), id)
	}
}

// A new version at the place of a removed one belongs to a later pass.
func usedAgain(t *testing.T, db *sqlx.DB) {
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)`)
	begun, err := lab.Fetch(t, s, at, 10)
	require.NoError(t, err)
	db.MustExec(`DELETE FROM t WHERE id = 2`)
	db.MustExec(`VACUUM t`)
	db.MustExec(`INSERT INTO t VALUES (9, 0)`)
	var place string
	require.NoError(t, db.Get(&place, `SELECT ctid::text FROM t WHERE id = 9`))
	require.Equal(t, "(0,2)", place)
	b, err := lab.Fetch(t, s, begun.To, 10)
	require.NoError(t, err)
	assert.Len(t, b.Records, 2)
	rows, _, _ := poll(t, s, b.To)
	assert.Equal(t, pairs(9), rows)
}

func copyFreeze(t *testing.T, db *sqlx.DB) {
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, statement := range []string{`BEGIN`, `TRUNCATE t`, `COPY t FROM PROGRAM 'printf "1\t0\n2\t0\n"' WITH (FREEZE)`, `COMMIT`} {
		_, err := conn.ExecContext(context.Background(), statement)
		require.NoError(t, err)
	}
	rows, _, _ := poll(t, s, at)
	assert.Equal(t, pairs(1, 2), rows)
}

// ALTER TABLE that rewrites the table writes new versions of all rows.
func rewrite(t *testing.T, db *sqlx.DB) {
	db.MustExec(`DROP TABLE IF EXISTS r; CREATE TABLE r (id int PRIMARY KEY, v int)`)
	db.MustExec(`INSERT INTO r VALUES (1, 0), (2, 0)`)
	s := sourceOf(db, "r", "id")
	_, at, _ := poll(t, s, "")
	db.MustExec(`ALTER TABLE r ADD COLUMN w int DEFAULT 7`) // no rewrite
	rows, at, _ := poll(t, s, at)
	assert.Empty(t, rows)
	db.MustExec(`ALTER TABLE r ALTER v TYPE bigint`)
	rows, at, _ = poll(t, s, at)
	assert.Equal(t, []string{`{"id":1,"v":0,"w":7}`, `{"id":2,"v":0,"w":7}`}, rows)
	db.MustExec(`TRUNCATE r; INSERT INTO r VALUES (2, 1, 1)`)
	rows, _, _ = poll(t, s, at)
	assert.Equal(t, []string{`{"id":2,"v":1,"w":1}`}, rows)
}

func anotherDatabase(t *testing.T, db *sqlx.DB, server *dbtest.Server) {
	other := server.NewDatabase(t).Open(t, dbtest.PQ)
	s := sourceOf(db, "t", "id")
	_, at, _ := poll(t, s, "")
	open := lab.Begin(t, other, `CREATE TABLE o (id int)`)
	db.MustExec(`INSERT INTO t VALUES (1, 0)`)
	rows, at, held := poll(t, s, at)
	assert.Empty(t, rows)
	require.NotNil(t, held)
	assert.Contains(t, held.By[0], "pid ")
	require.NoError(t, open.Rollback())
	readOnly := lab.Begin(t, other, `SELECT count(*) FROM pg_class`)
	rows, _, held = poll(t, s, at)
	assert.Equal(t, pairs(1), rows)
	assert.Nil(t, held, "a transaction that only reads holds nothing back")
	require.NoError(t, readOnly.Rollback())
}
