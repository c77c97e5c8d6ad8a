package sqlsource

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

func TestMain(m *testing.M) { lab.Main(m) }

// reading reads the table orders batch by batch and keeps the cursor.
type reading struct {
	t     *testing.T
	table *sqlsource.Table
	at    source.Cursor
}

func follow(t *testing.T, db *sqlx.DB, key ...string) *reading {
	return &reading{t: t, table: lab.Silent(db, "orders", key...)}
}

// next returns the first column of the rows that are available now.
func (r *reading) next() (ids []string) {
	r.t.Helper()
	r.at, _ = lab.PollOnce(r.t, r.table, r.at, &ids)
	return ids
}
