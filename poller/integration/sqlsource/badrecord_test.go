package sqlsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// picky is a field that refuses some values, with an error that shows them.
type picky string

func (p *picky) Scan(src any) error {
	text := fmt.Sprintf("%s", src)
	if strings.Contains(text, "bad") {
		return fmt.Errorf("hunter2: %s", text)
	}
	*p = picky(text)
	return nil
}

// walk reads all records of a source. It returns them with the rows that could not be read, in
// order, as "!" and their key.
func walk[T any](t *testing.T, src source.Source[T], limit int, text func(T) string) (all []string) {
	t.Helper()
	for after := source.Cursor(""); ; {
		b, err := lab.Fetch(t, src, after, limit)
		var bad *source.BadRecord
		if errors.As(err, &bad) {
			require.NotContains(t, err.Error(), "hunter2")
			require.Empty(t, b.Records)
			require.NotEqual(t, after, bad.To)
			require.NoError(t, bad.To.Validate())
			_, again := lab.Fetch(t, src, after, limit+1) // Fetch is repeatable
			require.EqualError(t, again, err.Error())
			all, after = append(all, "!"+bad.Key), bad.To
			continue
		}
		require.NoError(t, err)
		require.LessOrEqual(t, len(b.Records), limit)
		for _, r := range b.Records {
			all = append(all, text(r))
		}
		if b.To == after {
			return all
		}
		after = b.To
	}
}

var limits = []int{1, 2, 3, 7, 100}

// A row that does not fit into T is named by its key, and the rows around it are read.
func TestARowThatDoesNotFitIsABadRecord(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (a int not null, b varchar(10) not null, name varchar(20), n varchar(20), p varchar(20), primary key (a, b))`)
		db.MustExec(`insert into t values (1, 'x', null, '1', 'p'), (2, 'x', 'two', '2', 'p'), (3, 'x', 'three', 'hunter2', 'p'), (3, 'y', 'four', '4', 'p'),
			(5, 'x', 'five', '5', 'bad'), (6, 'x', 'six', '6', 'p'), (7, 'x', 'seven', '7', 'p'), (8, 'x', null, '8', 'bad'), (8, 'y', 'hunter2', 'hunter2', 'bad'), (9, 'x', 'nine', '9', 'p'),
			(10, 'x', null, '10', 'p')`)
		type record struct {
			A, N int
			Name string
			P    picky
		}
		for _, limit := range limits {
			query := &sqlsource.Query[record]{DB: db, Select: "select a, name, n, p from t where b <> 'y'", Key: []string{"a"}, Ceiling: ceiling.None{}}
			got := walk(t, query, limit, func(r record) string { return fmt.Sprint(r.A, r.Name, r.N, r.P) })
			require.Equal(t, []string{"!a 1", "2two2p", "!a 3", "!a 5", "6six6p", "7seven7p", "!a 8", "9nine9p", "!a 10"}, got, "limit %d", limit)
		}
		type pair struct {
			A, N    int
			B, Name string
			P       picky
		}
		for _, limit := range limits {
			query := &sqlsource.Query[pair]{DB: db, Select: "select n, b, a, p, name from t", Key: []string{"a", "b"}, Ceiling: ceiling.None{}, Table: "t"}
			got := walk(t, query, limit, func(r pair) string { return fmt.Sprint(r.A, r.B, r.Name, r.N, r.P) })
			require.Equal(t, []string{"!a 1, b x", "2x" + "two2p", "!a 3, b x", "3yfour4p", "!a 5, b x", "6xsix6p", "7xseven7p", "!a 8, b x", "!a 8, b y", "9xnine9p", "!a 10, b x"}, got, "limit %d", limit)
		}
	})
}

// A row that is larger than MaxRowBytes is named by its key. A large row that is not comes alone.
func TestARowThatIsTooLargeIsABadRecord(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		blob := map[bool]string{true: "bytea", false: "longblob"}[lab.IsPostgres(driver)]
		db.MustExec(`create table t (id int not null primary key, a ` + map[bool]string{true: "longtext", false: "text"}[lab.IsMariaDB(driver)] + `, b ` + blob + `)`)
		const small, large, tooLarge = 10, 40_000, 140_000
		text := func(r row.Row) string { return fmt.Sprint(r.Text(0), " ", len(r.Text(1)), " ", len(r.Text(2))) }
		var want, wantSmall []string
		for id, sizes := range [][2]int{{tooLarge, 0}, {small, 0}, {large, large}, {large, 0}, {tooLarge, tooLarge}, {small, small}, {small, tooLarge}, {small, large}, {tooLarge, small}, {small, small}, {large, 0}} {
			db.MustExec(db.Rebind(`insert into t values (?, ?, ?)`), id, strings.Repeat("x", sizes[0]), make([]byte, sizes[1]))
			line := fmt.Sprintf("!id %d", id)
			if sizes[0] != tooLarge && sizes[1] != tooLarge {
				line = fmt.Sprint(id, " ", sizes[0], " ", (sizes[1]+2)/3*4)
			}
			want = append(want, line)
			if !strings.HasSuffix(line, " 10 0") && !strings.HasSuffix(line, " 10 16") {
				line = fmt.Sprintf("!id %d", id)
			}
			wantSmall = append(wantSmall, line)
		}
		for _, limit := range limits {
			table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: ceiling.None{}, MaxBytes: 30_000, MaxRowBytes: 110_000}
			require.Equal(t, want, walk(t, table, limit, text), "limit %d", limit)
			table = &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: ceiling.None{}, MaxRowBytes: 500}
			require.Equal(t, wantSmall, walk(t, table, limit, text), "limit %d", limit)
		}
		type record struct {
			ID int
			A  string
			B  []byte
		}
		for _, limit := range limits {
			query := &sqlsource.Query[record]{DB: db, Select: "select * from t", Key: []string{"id"}, Ceiling: ceiling.None{}, MaxBytes: 30_000, MaxRowBytes: 110_000}
			got := walk(t, query, limit, func(r record) string { return fmt.Sprint(r.ID, " ", len(r.A), " ", (len(r.B)+2)/3*4) })
			require.Equal(t, want, got, "limit %d", limit)
		}
	})
}

// Values that only the server can refuse: text that the connection's encoding lacks, and an
// expression that fails for a row.
func TestARowThatTheServerRefusesIsABadRecord(t *testing.T) {
	t.Parallel()
	server := dbtest.Postgres(t)
	admin := server.Database("postgres").Open(t, dbtest.PGX)
	admin.MustExec(`CREATE DATABASE refused ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0`)
	t.Cleanup(func() { admin.MustExec(`DROP DATABASE refused WITH (FORCE)`) })
	db := server.Database("refused").Open(t, dbtest.PQ) // which requires UTF-8
	db.MustExec(`create table t (id int primary key, v text, n int)`)
	db.MustExec(`insert into t select n, case when n in (1, 4, 5, 9) then convert_from('\x68756e746572e932', 'SQL_ASCII') else 'fine' end, n % 4 from generate_series(1, 9) n`)
	for _, limit := range limits {
		table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Ceiling: ceiling.None{}}
		got := walk(t, table, limit, func(r row.Row) string { return r.Text(0) })
		require.Equal(t, []string{"!id 1", "2", "3", "!id 4", "!id 5", "6", "7", "8", "!id 9"}, got, "limit %d", limit)

		type record struct{ ID, N int }
		query := &sqlsource.Query[record]{DB: db, Select: "select id, 12 / n as n from t", Key: []string{"id"}, Ceiling: ceiling.None{}}
		got = walk(t, query, limit, func(r record) string { return fmt.Sprint(r.ID, " ", r.N) })
		require.Equal(t, []string{"1 12", "2 6", "3 4", "!id 4", "5 12", "6 6", "7 4", "!id 8", "9 12"}, got, "limit %d", limit)
	}
	table := &sqlsource.Table{DB: db, Name: "t", Key: []string{"id"}, Columns: []string{"id"}, Where: "12 / n > 0", Ceiling: ceiling.None{}}
	b, err := lab.Fetch(t, table, "", 10)
	if err == nil { // the database may have returned the rows before the one that fails
		_, err = lab.Fetch(t, table, b.To, 10)
	}
	require.ErrorContains(t, err, "22012") // the condition fails, so no row is to blame
	require.NotErrorAs(t, err, new(*source.BadRecord))
}

// A pipeline moves past rows that cannot be read, and delivers all others once.
func TestBadRecordsGoToDeadLetter(t *testing.T) {
	t.Parallel()
	lab.EachDriver(t, func(t *testing.T, driver dbtest.Driver, db *sqlx.DB) {
		db.MustExec(`create table t (id ` + lab.IDColumn(driver) + `, name varchar(20))`)
		var want, wantBad []string
		for id := 1; id <= 200; id++ {
			name := fmt.Sprintf("'%d'", id)
			if id%17 == 0 {
				name = "null"
				wantBad = append(wantBad, fmt.Sprintf("id %d", id))
			} else {
				want = append(want, fmt.Sprint(id))
			}
			db.MustExec(`insert into t (name) values (` + name + `)`)
		}
		type record struct {
			ID   int
			Name string
		}
		var got, gotBad []string
		var saved pollertest.Checkpointer
		logger := slog.New(slog.DiscardHandler)
		p := &poller.Poller[record]{
			Name: "t", Logger: logger, BatchSize: 10, Checkpointer: saved.Open(),
			Source: &sqlsource.Query[record]{DB: db, Select: "select * from t", Key: []string{"id"}, Table: "t", Logger: logger},
			Sink: sink.Func[record](func(_ context.Context, b source.Batch[record]) error {
				for _, r := range b.Records {
					got = append(got, r.Name)
				}
				return nil
			}),
			DeadLetter: sink.Func[poller.Rejected[record]](func(_ context.Context, b source.Batch[poller.Rejected[record]]) error {
				for _, r := range b.Records {
					gotBad = append(gotBad, r.Key)
				}
				return nil
			}),
		}
		require.NoError(t, p.Drain(t.Context()))
		require.Equal(t, want, got)
		require.Equal(t, wantBad, gotBad)
	})
}
