package sqlsource

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
)

// statements are those of a connection, which is used by one goroutine at a time.
type statements struct{ texts []string }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.texts = append(s.texts, q.SQL)
	return ctx
}
func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func traced(t *testing.T, d dbtest.Database) (*sqlx.DB, *statements) {
	config, err := pgx.ParseConfig(d.DSN(dbtest.PGX))
	require.NoError(t, err)
	s := &statements{}
	config.Tracer = s
	db := sqlx.NewDb(stdlib.OpenDB(*config), "pgx")
	t.Cleanup(func() { db.Close() })
	return db, s
}

// A backlog is read with one statement for each batch. When a row becomes large, no large value is
// selected together with other rows any more.
func TestPostgresLargeRowInABacklog(t *testing.T) {
	t.Parallel()
	for _, ddl := range []string{"", " PARTITION BY RANGE (id)"} {
		t.Run("orders"+ddl, func(t *testing.T) {
			t.Parallel()
			d := dbtest.Postgres(t).NewDatabase(t)
			db := d.Open(t, dbtest.PGX)
			db.MustExec(`CREATE TABLE orders (id bigserial PRIMARY KEY, note text, doc jsonb)` + ddl)
			if ddl != "" {
				db.MustExec(`CREATE TABLE first PARTITION OF orders FOR VALUES FROM (1) TO (50); CREATE TABLE others PARTITION OF orders DEFAULT`)
			}
			db.MustExec(`INSERT INTO orders (note, doc) SELECT 'note ' || n, '{"a": 1}' FROM generate_series(1, 100) n`)
			connection, trace := traced(t, d)
			table := lab.Silent(connection, "orders", "id")
			fetch := func(after source.Cursor, rows int) (next source.Cursor, plain int) {
				trace.texts = nil
				b, err := lab.Fetch(t, table, after, 10)
				require.NoError(t, err)
				require.Len(t, b.Records, rows)
				for _, text := range trace.texts {
					if strings.Contains(text, "pg_relation_size") && strings.Contains(text, "LIMIT") {
						require.NotContains(t, text, "octet_length")
						plain++
					}
				}
				return b.To, plain
			}
			at, plain := fetch("", 10)
			require.Zero(t, plain, "it is not known that more rows follow")
			for range 2 {
				at, plain = fetch(at, 10)
				require.Equal(t, 1, plain)
				require.LessOrEqual(t, len(trace.texts), 3, "the rows, and delivered rows to compare; the history and whether there are rows, if not all commits are on disk")
			}
			db.MustExec(`UPDATE orders SET note = repeat('x', 10 << 20) WHERE id = 75`)
			for _, rows := range []int{10, 10, 10, 10} {
				at, plain = fetch(at, rows)
			}
			require.Zero(t, plain)
			at, _ = fetch(at, 4) // the ids 71 to 74
			at, _ = fetch(at, 1)
			_, plain = fetch(at, 1) // the size of the last batch limits the next one
			require.Zero(t, plain)
		})
	}
}

// However the columns change between two batches of a backlog, the rows have the columns of now.
func TestPostgresColumnsChangeInABacklog(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		db.MustExec(`CREATE TABLE orders (id bigserial PRIMARY KEY, a text, b text)`)
		db.MustExec(`INSERT INTO orders (a, b) SELECT 'a' || n, 'b' || n FROM generate_series(1, 200) n`)
		table, at, last := lab.Silent(db, "orders", "id"), source.Cursor(""), 0
		read := func(change string) {
			for range 3 { // the first one finds the change, the others have the condition
				b, err := lab.Fetch(t, table, at, 5)
				require.NoError(t, err, change)
				require.Len(t, b.Records, 5, change)
				for _, r := range b.Records {
					last++
					var want string
					require.NoError(t, db.Get(&want, fmt.Sprintf(`SELECT row_to_json(t)::text FROM orders t WHERE id = %d`, last)))
					require.JSONEq(t, want, lab.RowJSON(r), change)
				}
				at = b.To
			}
		}
		read("")
		for _, change := range []string{
			`ALTER TABLE orders ADD COLUMN c integer DEFAULT 7`,
			`ALTER TABLE orders RENAME COLUMN a TO x; ALTER TABLE orders RENAME COLUMN b TO a; ALTER TABLE orders RENAME COLUMN x TO b`,
			`ALTER TABLE orders ALTER COLUMN c TYPE text`,
			`ALTER TABLE orders DROP COLUMN b, ADD COLUMN b integer DEFAULT 3`,
			`ALTER TABLE orders DROP COLUMN c`,
			`ALTER TABLE orders ALTER COLUMN a TYPE varchar(10)`,
			`ALTER TABLE orders ADD COLUMN d text DEFAULT repeat('d', 5000)`,
		} {
			db.MustExec(change)
			read(change)
		}
	})
}
