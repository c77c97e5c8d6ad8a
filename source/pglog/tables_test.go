package pglog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// published is a database whose publication has these tables. It can do no more than list them.
type published struct{ tables []table }

func (p *published) Connect(context.Context) (driver.Conn, error) { return publishedConn{p: p}, nil }
func (p *published) Driver() driver.Driver                        { return nil }

type publishedConn struct {
	driver.Conn
	p *published
}

func (publishedConn) Close() error { return nil }

func (c publishedConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	r := &publishedRows{columns: make([]string, 1)}
	switch {
	case query == tablesQuery:
		r.columns = make([]string, 11)
		for _, t := range c.p.tables {
			r.rows = append(r.rows, []driver.Value{t.id, "public", t.name, "d", false, false, false, `["id"]`, `["id"]`, "", `[]`})
		}
	case strings.Contains(query, "client_encoding"):
		r.columns, r.rows = make([]string, 6), [][]driver.Value{{int64(1), "UTF8", "UTF8", "on", "UTC", false}}
	}
	return r, nil
}

type publishedRows struct {
	columns []string
	rows    [][]driver.Value
}

func (r *publishedRows) Columns() []string { return r.columns }
func (r *publishedRows) Close() error      { return nil }

func (r *publishedRows) Next(dest []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	copy(dest, r.rows[0])
	r.rows = r.rows[1:]
	return nil
}

// Tables that join or leave the publication are logged once, and a table that is renamed is still the same.
func TestPublishedTablesChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &published{tables: []table{{id: 1, name: "orders"}, {id: 2, name: "lines"}}}
		db := sqlx.NewDb(sql.OpenDB(p), "pgx")
		defer db.Close()
		logged := &strings.Builder{}
		s := &Source{DB: db, Publication: "p", Logger: slog.New(slog.NewJSONHandler(logged, nil))}
		list := func(want ...string) {
			t.Helper()
			require.NoError(t, s.list(t.Context()))
			assert.Empty(t, logged.String(), "the tables are not read again so soon")
			time.Sleep(listEvery)
			require.NoError(t, s.list(t.Context()))
			if len(want) == 0 {
				assert.Empty(t, logged.String())
				return
			}
			var line struct {
				Level, Msg, Publication, Fix string
				Added, Removed               []string
			}
			require.NoError(t, json.Unmarshal([]byte(logged.String()), &line))
			assert.Equal(t, []string{"WARN", "published tables changed", "p"}, []string{line.Level, line.Msg, line.Publication})
			assert.Equal(t, want, []string{strings.Join(line.Added, " "), strings.Join(line.Removed, " ")})
			assert.Contains(t, line.Fix, "not delivered")
			logged.Reset()
		}
		list()
		p.tables = []table{{id: 1, name: "orders"}, {id: 2, name: "items"}}
		list()
		p.tables = append(p.tables, table{id: 3, name: "New.Ones"})
		list(`public."New.Ones"`, "")
		p.tables = []table{{id: 1, name: "orders"}, {id: 4, name: "items"}}
		list("public.items", `public.items public."New.Ones"`)
		p.tables = p.tables[:1]
		list("", "public.items")
		list()
	})
}
