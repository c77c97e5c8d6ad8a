package postgres

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// reading reads a table batch by batch and keeps the cursor.
type reading struct {
	t     *testing.T
	table *sqlsource.Table
	at    source.Cursor
	last  source.Batch[row.Row]
}

func follow(t *testing.T, db *sqlx.DB, key ...string) *reading {
	return &reading{t: t, table: &sqlsource.Table{DB: db, Name: "orders", Key: key, Logger: slog.New(slog.DiscardHandler)}}
}

// next returns the ids of the rows that are available now.
func (r *reading) next() []string {
	r.t.Helper()
	var ids []string
	for {
		b, err := r.table.Fetch(r.t.Context(), r.at, 1000)
		require.NoError(r.t, err)
		r.at, r.last = b.To, b
		for _, rec := range b.Records {
			id, _ := rec.Get("id")
			ids = append(ids, id)
		}
		if b.More || lab.Unflushed(b.Held) {
			continue
		}
		return ids
	}
}

func (r *reading) fails() error {
	r.t.Helper()
	return lab.Refused(r.t, r.table, r.at)
}

// heldBy requires that rows are held back by one transaction, which began no earlier than
// the given time. The reported age depends on how busy the machine is.
func (r *reading) heldBy(pattern string, began time.Time) {
	r.t.Helper()
	require.NotNil(r.t, r.last.Held)
	by := strings.Join(r.last.Held.By, ", ")
	m := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(by)
	require.NotNil(r.t, m, by)
	age, err := time.ParseDuration(m[1])
	require.NoError(r.t, err, by)
	require.LessOrEqual(r.t, age, time.Since(began)+time.Second, by) // the age is rounded
}

// The race that ceilings exist for: row 1 commits after row 2.
func TestLockFence(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(lab.Identity)
		r := follow(t, db, "id")
		naive := follow(t, db, "id")
		naive.table.Ceiling = ceiling.None{}
		require.Empty(t, r.next())
		require.False(t, r.last.AsOf.IsZero())

		began := time.Now()
		late := lab.Begin(t, db, `set application_name = 'late'`, `insert into orders (v) values ('late')`)
		db.MustExec(`insert into orders (v) values ('early')`)
		require.Equal(t, []string{"2"}, naive.next())
		require.Empty(t, r.next())
		r.heldBy(`pid \d+ \(late\), open for (\S+)`, began)
		require.NoError(t, late.Commit())
		require.Equal(t, []string{"1", "2"}, r.next())
		require.Nil(t, r.last.Held)
		require.Empty(t, naive.next(), "the reader without a ceiling has lost a row")

		// A row waits for transactions that were open at the same time, and for no later
		// ones.
		first := lab.Begin(t, db, `insert into orders (v) values ('3')`)
		db.MustExec(`insert into orders (v) values ('4')`)
		require.Empty(t, r.next())
		lab.Begin(t, db, `insert into orders (v) values ('5')`)
		db.MustExec(`insert into orders (v) values ('6')`)
		require.Empty(t, r.next())
		since := r.last.Held.Since
		require.NoError(t, first.Rollback())
		require.Equal(t, []string{"4"}, r.next())
		require.NotNil(t, r.last.Held)
		require.True(t, r.last.Held.Since.After(since))
	})
}

// On a private server, because every transaction of the cluster holds rows back, including
// those of autovacuum.
func TestTransactionID(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off"))
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		db := server.NewDatabase(t).Open(t, driver)
		db.MustExec(`create table orders (id bigint primary key, _tx xid8 not null default pg_current_xact_id()); create index on orders (_tx, id)`)
		r := follow(t, db, "_tx", "id")
		require.Empty(t, r.next())
		began := time.Now()
		late := lab.Begin(t, db, `set application_name = 'late'`, `insert into orders values (9), (7)`)
		db.MustExec(`insert into orders values (1)`)
		require.Empty(t, r.next())
		r.heldBy(`pid \d+ \(late\), open for (\S+)`, began)
		require.NoError(t, late.Commit())
		require.Equal(t, []string{"7", "9", "1"}, r.next())
		require.Nil(t, r.last.Held)
		require.False(t, r.last.AsOf.IsZero())

		// With a trigger, updated rows are read again.
		require.Empty(t, findingWith(t, guard(t, db, "orders", defaultCeiling{}, "_tx", "id").Report(), "changes are not read").Remedies[0].Statements)
		db.MustExec(`alter table orders drop column _tx`)
		addRecipe(db, "orders", "_tx", "id")
		db.MustExec(`update orders set id = id where id < 9`)
		r = follow(t, db, "_tx", "id")
		require.Equal(t, []string{"9", "1", "7"}, r.next())
	}
}

// findingWith returns the finding that contains a text.
func findingWith(t *testing.T, r ceiling.Report, text string) ceiling.Finding {
	t.Helper()
	for _, f := range r.Findings {
		if strings.Contains(f.Text, text) {
			return f
		}
	}
	require.Fail(t, "no such finding", "%q in %v", text, r.Findings)
	return ceiling.Finding{}
}

// run runs the statements of a remedy on one connection, like psql.
func run(t *testing.T, db *sqlx.DB, statements []string) {
	t.Helper()
	require.NotEmpty(t, statements)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, s := range statements {
		_, err := conn.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
}

func guard(t *testing.T, db *sqlx.DB, table string, c ceiling.Ceiling, key ...string) ceiling.Guard {
	g, err := c.Open(t.Context(), db.DB, ceilingTable(table, key...))
	require.NoError(t, err)
	return g
}

// defaultCeiling is the ceiling that a Table uses if its Ceiling is nil.
type defaultCeiling struct{}

func (defaultCeiling) String() string { return "chosen" }

func (defaultCeiling) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	c, err := postgres.Dialect{}.Choose(ctx, db, t)
	if err != nil {
		return nil, err
	}
	return c.Open(ctx, db, t)
}

func ceilingTable(table string, key ...string) ceiling.Table {
	ct := ceiling.Table{SQL: postgres.Dialect{}, Label: table, Parts: []string{table}, Name: `"` + table + `"`}
	for _, k := range key {
		ct.Key = append(ct.Key, ceiling.Column{Name: k, Quoted: `"` + k + `"`, Ref: `t."` + k + `"`})
	}
	return ct
}

func TestStamp(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigint primary key, at timestamptz not null default now(), v int)`)
		var unsafe *ceiling.UnsafeError
		require.ErrorAs(t, follow(t, db, "at", "id").fails(), &unsafe)
		f := findingWith(t, unsafe.Report, "the key begins with")
		require.Equal(t, ceiling.Unsafe, f.Level)
		addRecipe(db, "orders", "_at", "id")

		require.ErrorAs(t, follow(t, db, "_at", "id").fails(), &unsafe, "it is never chosen automatically")
		r := follow(t, db, "_at", "id")
		r.table.Ceiling = postgres.Stamp{}
		require.Empty(t, r.next())
		late := lab.Begin(t, db, `insert into orders (id) values (1)`)
		db.MustExec(`insert into orders (id) values (2)`)
		require.Empty(t, r.next())
		require.NotNil(t, r.last.Held)
		require.NoError(t, late.Commit())
		require.Equal(t, []string{"1", "2"}, r.next())

		late = lab.Begin(t, db, `update orders set v = 1 where id = 2`)
		db.MustExec(`update orders set v = 2 where id = 1`)
		require.Empty(t, r.next())
		require.NoError(t, late.Commit())
		require.Equal(t, []string{"2", "1"}, r.next())
		require.Nil(t, r.last.Held)
	})
}

func roleOf(t *testing.T, database dbtest.Database, db *sqlx.DB, grants ...string) *sqlx.DB {
	t.Helper()
	name := "reader_" + database.Name()
	db.MustExec(`create role ` + name + ` login password 'plain'`)
	t.Cleanup(func() { db.MustExec(`drop owned by ` + name + `; drop role ` + name) })
	for _, g := range grants {
		db.MustExec(g + ` to ` + name)
	}
	plain := database.WithUser(name, "plain").Open(t, dbtest.PGX)
	t.Cleanup(func() { plain.Close() }) // close before the role is dropped
	return plain
}

// A role with no right but SELECT gets the same guarantee.
func TestLockFencePlainRole(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(lab.Identity)
	plain := roleOf(t, database, db, `grant select on orders`)
	r := follow(t, plain, "id")
	require.Empty(t, r.next())
	late := lab.Begin(t, db, `set application_name = 'late'`, `insert into orders (v) values ('late')`)
	db.MustExec(`insert into orders (v) values ('early')`)
	require.Empty(t, r.next())
	require.Regexp(t, `^pid \d+ \(late\)$`, strings.Join(r.last.Held.By, ", "), "the role may not see the transaction's age")
	require.NoError(t, late.Commit())
	require.Equal(t, []string{"1", "2"}, r.next())

	// The role may not read the sequence, but a restart of it is detected.
	db.MustExec(`truncate orders restart identity`)
	err := r.fails()
	require.ErrorIs(t, err, sqlsource.ErrHistory)
	require.ErrorContains(t, err, "it was restarted")
}
