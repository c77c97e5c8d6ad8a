package sqlsource

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
	"github.com/artifactofdevotion/devotion/source/sqlsource/mysql"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
	"github.com/artifactofdevotion/devotion/source/sqlsource/sqlite"
)

// fake is a driver whose every statement returns a key and the same columns
// and, if it asks for more than one row, rows.
type fake struct {
	columns []string
	rows    [][]driver.Value
	fail    error
	open    atomic.Int32 // results not closed
	asked   atomic.Int32
}

func (f *fake) Connect(context.Context) (driver.Conn, error) { return fakeConn{f}, nil }
func (f *fake) Driver() driver.Driver                        { return nil }

type fakeConn struct{ f *fake }

func (c fakeConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("not used") }
func (c fakeConn) Begin() (driver.Tx, error)           { return nil, errors.New("not used") }
func (c fakeConn) Close() error                        { return nil }
func (c fakeConn) QueryContext(_ context.Context, q string, _ []driver.NamedValue) (driver.Rows, error) {
	c.f.asked.Add(1)
	if c.f.fail != nil {
		return nil, c.f.fail
	}
	c.f.open.Add(1)
	r := &fakeRows{f: c.f, columns: append([]string{c.f.columns[0]}, c.f.columns...)}
	if limit := q[strings.LastIndexByte(q, ' ')+1:]; strings.Contains(q, " LIMIT ") && limit != "1" {
		r.rows = c.f.rows
	}
	if strings.Contains(q, "client_encoding") {
		r.columns, r.rows = make([]string, 6), [][]driver.Value{{int64(1), "UTF8", "UTF8", "on", "UTC", false}}
	}
	if strings.Contains(q, "pg_control_system") {
		r.columns, r.rows = make([]string, 9), [][]driver.Value{{false, "1", "00000001", "5", "", "9", "9", 0.2, "boot"}}
	}
	return r, nil
}

type fakeRows struct {
	f       *fake
	columns []string
	rows    [][]driver.Value
}

func (r *fakeRows) Columns() []string                     { return r.columns }
func (r *fakeRows) ColumnTypeDatabaseTypeName(int) string { return "INT8" }
func (r *fakeRows) Close() error                          { r.f.open.Add(-1); return nil }
func (r *fakeRows) Next(dest []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	copy(dest, r.rows[0])
	r.rows = r.rows[1:]
	return nil
}

func open(t testing.TB, f *fake) *sqlx.DB {
	db := sqlx.NewDb(sql.OpenDB(f), "mysql")
	t.Cleanup(func() { db.Close() })
	return db
}

func TestFieldsAreChecked(t *testing.T) {
	t.Parallel()
	db := open(t, &fake{})
	key := []string{"id"}
	for field, table := range map[string]*Table{
		"DB":                    {Name: "t", Key: key},
		"Name":                  {DB: db, Key: key},
		"Key is empty":          {DB: db, Name: "t"},
		"Key[0]":                {DB: db, Name: "t", Key: []string{""}},
		`column "a" twice`:      {DB: db, Name: "t", Key: []string{"a", "b", "a"}},
		"Columns is":            {DB: db, Name: "t", Key: key, Columns: []string{}},
		"Columns[1]":            {DB: db, Name: "t", Key: key, Columns: []string{"a", "\x00"}},
		"Where":                 {DB: db, Name: "t", Key: key, Where: "a\x00"},
		"Start":                 {DB: db, Name: "t", Key: key, Start: "x"},
		"Where has a paren":     {DB: db, Name: "t", Key: key, Where: "id < 50) or (id >= 50"},
		"Select has a paren":    {DB: db, Name: "t", Key: key, Select: "select * from t) as t where (1 = 1"},
		"MaxBytes":              {DB: db, Name: "t", Key: key, MaxBytes: -1},
		"MaxRowBytes":           {DB: db, Name: "t", Key: key, MaxRowBytes: -1},
		"set the field Dialect": {DB: sqlx.NewDb(sql.OpenDB(&fake{}), "odd"), Name: "t", Key: key},
	} {
		_, err := table.Fetch(t.Context(), "", 1)
		require.ErrorContains(t, err, field)
		require.ErrorContains(t, err, "sqlsource: ")
		require.Equal(t, retry.Fatal, retry.Classify(err))
		_, err = table.At(1)
		require.ErrorContains(t, err, field)
		require.Contains(t, table.Describe(""), field)
	}
	for field, q := range map[string]*Query[int]{
		"Select is empty": {DB: db, Key: key, Select: " ; "},
		"Select has":      {DB: db, Key: key, Select: "select id from t) as t where (1 = 1"},
		"Select holds":    {DB: db, Key: key, Select: "select \x00"},
		"Table":           {DB: db, Key: key, Select: "select 1", Table: "."},
		"Key":             {DB: db, Select: "select 1"},
	} {
		_, err := q.Fetch(t.Context(), "", 1)
		require.ErrorContains(t, err, field)
		require.Equal(t, retry.Fatal, retry.Classify(err))
	}
	good := &Table{DB: db, Name: "t", Key: key}
	_, err := good.Fetch(t.Context(), "", 0)
	require.ErrorContains(t, err, "limit of 0")
	first, err := good.At()
	require.NoError(t, err)
	require.NotEmpty(t, first)
	require.Equal(t, "t before the first row", good.Describe(first))
	for _, bad := range [][]any{{1, 2}, {nil}, {struct{}{}}} {
		_, err := good.At(bad...)
		require.Error(t, err)
	}
}

// Only a condition that closes a parenthesis of the statement, or opens one more, is refused.
func TestBalanced(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"": true, "a = 1": true, "(a = 1) or (b in (1, 2))": true, "a = ')'": true, "a = 'it''s :)'": true, `"a)" = 1`: true, "`a(` = 1": true,
		"a = 1 -- :)": true, "a = 1 -- :)\nor (b)": true, "a /* ) */ = 1": true, "a = ARRAY[1]": true,
		`a = '\') or (\''`: true, "a = $$)$$": true, "a--1) or (b": true, // left to the database
		"a) or (b": false, "(a": false, "a)": false, "a = ')') or (b = '('": false, "a -- (\n) or (b": false, "a /* ( */ ) or (b": false,
	} {
		require.Equal(t, want, checkSQL("Where", sql) == nil, sql)
	}
}

func TestNoConnectionBeforeFetch(t *testing.T) {
	t.Parallel()
	f := &fake{columns: []string{"id"}}
	table := &Table{DB: open(t, f), Name: "t", Key: []string{"id"}}
	c, err := table.At(7)
	require.NoError(t, err)
	require.Equal(t, "t after id = 7", table.Describe(c))
	require.Equal(t, "t before the first row", table.Describe(""))
	require.Zero(t, f.asked.Load())
}

// The driver's error is wrapped, no value of a row is shown, and no result stays
// open, wherever it fails.
func TestErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("down")
	f := &fake{columns: []string{"id", "secret"}, fail: cause}
	db := open(t, f)
	var src source.Source[struct{ ID, Secret int }] = &Query[struct{ ID, Secret int }]{DB: db, Select: "select 1", Key: []string{"id"}}
	_, err := src.Fetch(t.Context(), "", 1)
	require.ErrorIs(t, err, cause)
	require.Equal(t, retry.Transient, retry.Classify(err))
	f.fail = nil
	f.rows = [][]driver.Value{{int64(1), int64(1), "hunter2"}}
	src = &Query[struct{ ID, Secret int }]{DB: db, Select: "select 1", Key: []string{"id"}, Ceiling: ceiling.None{}, Dialect: postgres.Dialect{}}
	_, err = src.Fetch(t.Context(), "", 1)
	var bad *source.BadRecord
	require.ErrorAs(t, err, &bad)
	require.Equal(t, "id 1", bad.Key)
	require.ErrorContains(t, err, `the column "secret" does not fit its field`)
	require.Equal(t, retry.Fatal, retry.Classify(err))
	require.NotContains(t, err.Error(), "hunter2")
	require.Zero(t, f.open.Load())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = src.Fetch(ctx, "", 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestStatements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sql   dialect.Dialect
		key   []string
		types []string
		after []dialect.Value
		want  string
		args  []any
	}{
		{postgres.Dialect{}, []string{"id"}, []string{"INT8"}, nil, `SELECT x FROM "t" AS t WHERE (v > 0` + "\n" + `) ORDER BY t."id" LIMIT 5`, nil},
		{postgres.Dialect{}, []string{"id"}, []string{"INT8"}, []dialect.Value{{Tag: dialect.Int, Text: "7"}}, `SELECT x FROM "t" AS t WHERE (v > 0` + "\n" + `) AND t."id" > $1 ORDER BY t."id" LIMIT 5`, []any{"7"}},
		{postgres.Dialect{}, []string{"a", "b"}, []string{"TIMESTAMPTZ", "BYTEA"}, []dialect.Value{{Tag: dialect.Text, Text: "2026-01-31T00:00:00Z"}, {Tag: dialect.Bytes, Text: "00ff"}},
			`SELECT x FROM "t" AS t WHERE (v > 0` + "\n" + `) AND (t."a", t."b") > ($1, $2) ORDER BY t."a", t."b" LIMIT 5`, []any{"2026-01-31T00:00:00Z", []byte{0, 255}}},
		{mysql.Dialect{}, []string{"id"}, []string{"UNSIGNED BIGINT"}, []dialect.Value{{Tag: dialect.Int, Text: "18446744073709551615"}}, "SELECT x FROM `t` AS t WHERE (v > 0\n) AND t.`id` > ? ORDER BY t.`id` LIMIT 5", []any{uint64(1<<64 - 1)}},
		{mysql.Dialect{}, []string{"a", "b", "c"}, []string{"DECIMAL", "VARBINARY", "VARCHAR"}, []dialect.Value{{Tag: dialect.Text, Text: "1.50"}, {Tag: dialect.Bytes, Text: "ff"}, {Tag: dialect.Text, Text: "x"}},
			"SELECT x FROM `t` AS t WHERE (v > 0\n) AND t.`a` >= CAST(? AS DECIMAL(65,2)) AND (t.`a` > CAST(? AS DECIMAL(65,2)) OR (t.`a` = CAST(? AS DECIMAL(65,2)) AND (t.`b` > UNHEX(?) OR (t.`b` = UNHEX(?) AND t.`c` > ?)))) ORDER BY t.`a`, t.`b`, t.`c` LIMIT 5",
			[]any{"1.50", "1.50", "1.50", "ff", "ff", "x"}},
		{sqlite.Dialect{}, []string{"a", "b"}, []string{"", "INTEGER"}, []dialect.Value{{Tag: dialect.Bytes, Text: "ff"}, {Tag: dialect.Int, Text: "-1"}},
			`SELECT x FROM "t" AS t WHERE (v > 0` + "\n" + `) AND (t."a", t."b") > (?, ?) ORDER BY t."a", t."b" LIMIT 5`, []any{[]byte{255}, int64(-1)}},
	} {
		table := &Table{DB: open(t, &fake{}), Name: "t", Key: c.key, Where: "v > 0", Dialect: c.sql}
		q, err := table.query()
		require.NoError(t, err)
		p := &plan{list: "x"}
		for i, name := range c.key {
			k, err := q.sql.Key(t.Context(), nil, dialect.Column{Name: name, Type: c.types[i]}, q.ref(name), true)
			require.NoError(t, err)
			k.Name = name
			p.key = append(p.key, k)
		}
		want := withSettings(q, c.want)
		got, args, err := q.statement(p, p.list, keyRange{after: c.after, limit: 5})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, c.args, args)

		below, mark := ceiling.Limit{Where: "t.x <= ?", Args: []any{99}}, c.sql.Placeholder(len(c.args)+1)
		got, args, err = q.statement(p, p.list, keyRange{after: c.after, below: below, limit: 5})
		require.NoError(t, err)
		require.Equal(t, strings.Replace(want, " ORDER BY", " AND t.x <= "+mark+" ORDER BY", 1), got)
		require.Equal(t, append(slices.Clone(c.args), 99), args)
		below.Args = nil
		_, _, err = q.statement(p, p.list, keyRange{after: c.after, below: below, limit: 5})
		require.ErrorContains(t, err, "0 arguments for 1 question marks")
	}
	for _, typ := range []string{"ENUM", "SET", "FLOAT", "DOUBLE", "BIT", "JSON", "GEOMETRY", ""} {
		_, err := mysql.Dialect{}.Key(t.Context(), nil, dialect.Column{Name: "k", Type: typ}, "t.k", true)
		require.ErrorContains(t, err, `key column "k"`)
	}
}

// withSettings adds to a SELECT with a condition what makes it independent of the session's settings.
func withSettings(q *query, statement string) string {
	set := q.settings()
	statement = strings.Replace(statement, "SELECT ", "SELECT "+set.Hint, 1)
	if set.Where != "" {
		statement = strings.Replace(statement, " WHERE ", " WHERE "+set.Where+" AND ", 1)
	}
	return statement
}

func TestKeyTimes(t *testing.T) {
	t.Parallel()
	cet := time.FixedZone("", 3600)
	for want, c := range map[string]struct {
		kind row.Kind
		t    time.Time
	}{
		"2026-01-31T22:59:59.123456Z": {row.TimestampTZ, time.Date(2026, 1, 31, 23, 59, 59, 123456000, cet)},
		"2026-01-31T23:59:59.1":       {row.Timestamp, time.Date(2026, 1, 31, 23, 59, 59, 100000000, cet)},
		"12026-01-31":                 {row.Date, time.Date(12026, 1, 31, 0, 0, 0, 0, time.UTC)},
		"0001-02-29 BC":               {row.Date, time.Date(0, 2, 29, 0, 0, 0, 0, time.UTC)},
		"4713-01-01T00:00:00Z BC":     {row.TimestampTZ, time.Date(-4712, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		require.Equal(t, want, string(row.AppendTime(nil, c.kind, c.t)))
	}
}

// closed is a database that shows no plans to the role.
type closed struct{ postgres.Dialect }

func (closed) Explain(context.Context, ceiling.Queryer, string, []any, bool) ([]string, ceiling.Finding, error) {
	return nil, ceiling.Finding{}, denied{}
}

type denied struct{}

func (denied) Error() string    { return "permission denied" }
func (denied) SQLState() string { return "42501" }

func TestPlanThatIsNotShown(t *testing.T) {
	t.Parallel()
	f := &fake{columns: []string{"id"}, rows: [][]driver.Value{{int64(1), int64(1)}}}
	var log strings.Builder
	q := &Query[int]{DB: open(t, f), Select: "select 1", Key: []string{"id"}, Ceiling: ceiling.None{}, Dialect: closed{},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	_, err := q.Fetch(t.Context(), "", 1)
	require.NoError(t, err)
	require.Contains(t, log.String(), `msg="query plan not available" table=query err="SQLSTATE 42501`)
}
