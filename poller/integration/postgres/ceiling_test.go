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
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// reading follows a table and keeps what it was given.
type reading struct {
	t     *testing.T
	table *sqlsource.Table
	at    source.Cursor
	last  source.Batch[row.Row]
}

func follow(t *testing.T, db *sqlx.DB, key ...string) *reading {
	return &reading{t: t, table: &sqlsource.Table{DB: db, Name: "orders", Key: key, Logger: slog.New(slog.DiscardHandler)}}
}

// next returns the ids of the rows that are delivered now.
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
		if b.More || unflushed(b.Held) {
			continue
		}
		return ids
	}
}

func (r *reading) fails() error {
	r.t.Helper()
	_, err := r.table.Fetch(r.t.Context(), r.at, 1000)
	require.Error(r.t, err)
	return err
}

// heldBy requires that the rows wait for one transaction, which began no earlier
// than the time given: how long ago depends on how busy the machine is.
func (r *reading) heldBy(pattern string, began time.Time) {
	r.t.Helper()
	require.NotNil(r.t, r.last.Held)
	by := strings.Join(r.last.Held.By, ", ")
	m := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(by)
	require.NotNil(r.t, m, by)
	age, err := time.ParseDuration(m[1])
	require.NoError(r.t, err, by)
	require.LessOrEqual(r.t, age, time.Since(began)+time.Second, by) // it is rounded
}

// The race that all of this is about: 1 commits after 2.
func TestLockFence(t *testing.T) {
	eachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(identity)
		r := follow(t, db, "id")
		naive := follow(t, db, "id")
		naive.table.Ceiling = ceiling.None{}
		require.Empty(t, r.next())
		require.False(t, r.last.AsOf.IsZero())

		began := time.Now()
		late := begin(t, db, `set application_name = 'late'`, `insert into orders (v) values ('late')`)
		db.MustExec(`insert into orders (v) values ('early')`)
		require.Equal(t, []string{"2"}, naive.next())
		require.Empty(t, r.next())
		r.heldBy(`pid \d+ \(late\), open for (\S+)`, began)
		require.NoError(t, late.Commit())
		require.Equal(t, []string{"1", "2"}, r.next())
		require.Nil(t, r.last.Held)
		require.Empty(t, naive.next(), "the reader without a ceiling has lost a row")

		// A row waits for those that were there with it, and for none that came later.
		first := begin(t, db, `insert into orders (v) values ('3')`)
		db.MustExec(`insert into orders (v) values ('4')`)
		require.Empty(t, r.next())
		begin(t, db, `insert into orders (v) values ('5')`)
		db.MustExec(`insert into orders (v) values ('6')`)
		require.Empty(t, r.next())
		since := r.last.Held.Since
		require.NoError(t, first.Rollback())
		require.Equal(t, []string{"4"}, r.next())
		require.NotNil(t, r.last.Held)
		require.True(t, r.last.Held.Since.After(since))
	})
}

// On a server of its own, since any transaction of the cluster holds rows back,
// those of autovacuum too.
func TestTransactionID(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, dbtest.Args("-c", "autovacuum=off"))
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.PQ} {
		db := server.NewDatabase(t).Open(t, driver)
		db.MustExec(`create table orders (id bigint primary key, _tx xid8 not null default pg_current_xact_id()); create index on orders (_tx, id)`)
		r := follow(t, db, "_tx", "id")
		require.Empty(t, r.next())
		began := time.Now()
		late := begin(t, db, `set application_name = 'late'`, `insert into orders values (9), (7)`)
		db.MustExec(`insert into orders values (1)`)
		require.Empty(t, r.next())
		r.heldBy(`pid \d+ \(late\), open for (\S+)`, began)
		require.NoError(t, late.Commit())
		require.Equal(t, []string{"7", "9", "1"}, r.next())
		require.Nil(t, r.last.Held)
		require.False(t, r.last.AsOf.IsZero())

		// With a trigger, changes are read, too.
		db.MustExec(ceilingFix(t, db, "orders", "_tx", "id"))
		db.MustExec(`update orders set id = id where id < 9`)
		r = follow(t, db, "_tx", "id")
		require.Equal(t, []string{"9", "1", "7"}, r.next())
	}
}

// ceilingFix returns what the note about changes says to run.
func ceilingFix(t *testing.T, db *sqlx.DB, table string, key ...string) string {
	g := guard(t, db, table, chosen{}, key...)
	for _, f := range g.Report().Findings {
		if strings.Contains(f.Text, "changes are not read") {
			return f.Fix
		}
	}
	require.Fail(t, "no fix")
	return ""
}

func guard(t *testing.T, db *sqlx.DB, table string, c ceiling.Ceiling, key ...string) ceiling.Guard {
	g, err := c.Open(t.Context(), db.DB, ceilingTable(table, key...))
	require.NoError(t, err)
	return g
}

// chosen is the ceiling that a nil Ceiling stands for.
type chosen struct{}

func (chosen) String() string { return "chosen" }

func (chosen) Open(ctx context.Context, db ceiling.Queryer, t ceiling.Table) (ceiling.Guard, error) {
	c, err := postgres.Choose(ctx, db, t)
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
	eachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`create table orders (id bigint primary key, at timestamptz not null, v int); create index on orders (at, id)`)
		r := follow(t, db, "at", "id")
		var unsafe *ceiling.UnsafeError
		require.ErrorAs(t, r.fails(), &unsafe)
		fix, _, _ := strings.Cut(unsafe.Report.Findings[len(unsafe.Report.Findings)-3].Fix, "; or")
		db.MustExec(fix)
		r = follow(t, db, "at", "id")
		require.Empty(t, r.next())
		late := begin(t, db, `insert into orders values (1)`)
		db.MustExec(`insert into orders values (2)`)
		require.Empty(t, r.next())
		require.NotNil(t, r.last.Held)
		require.NoError(t, late.Commit())
		require.Equal(t, []string{"1", "2"}, r.next())

		late = begin(t, db, `update orders set v = 1 where id = 2`)
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
	plain := database.As(name, "plain").Open(t, dbtest.PGX)
	t.Cleanup(func() { plain.Close() }) // before the role is dropped
	return plain
}

// A role that may no more than SELECT gets the same guarantee.
func TestLockFencePlainRole(t *testing.T) {
	t.Parallel()
	database := dbtest.Postgres(t).NewDatabase(t)
	db := database.Open(t, dbtest.PGX)
	db.MustExec(identity)
	plain := roleOf(t, database, db, `grant select on orders`)
	r := follow(t, plain, "id")
	require.Empty(t, r.next())
	late := begin(t, db, `set application_name = 'late'`, `insert into orders (v) values ('late')`)
	db.MustExec(`insert into orders (v) values ('early')`)
	require.Empty(t, r.next())
	require.Regexp(t, `^pid \d+ \(late\)$`, strings.Join(r.last.Held.By, ", "), "the role may not see for how long")
	require.NoError(t, late.Commit())
	require.Equal(t, []string{"1", "2"}, r.next())

	// Where the sequence stands is not for this role: that it was restarted is seen.
	db.MustExec(`truncate orders restart identity`)
	err := r.fails()
	require.ErrorIs(t, err, sqlsource.ErrHistory)
	require.ErrorContains(t, err, "it was restarted")
}
