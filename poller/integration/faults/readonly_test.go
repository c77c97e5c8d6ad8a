//go:build linux

package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// The role of a pipeline whose rows and checkpoint are in the database may only read for a
// while. Nothing is delivered then, and everything afterwards.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	for _, e := range chosenEngines() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := results.row(t, fault{part: "databases", name: "read-only checkpoint",
				how: "a pipeline in the test process stores rows and checkpoint in a database; its connections are reset, and its role may only read until a write has failed"}, e.name)
			server := e.start(t)
			database, between := server.NewDatabase(t), newProxy(t, server.Addr())
			admin := database.Open(t, e.driver)
			createTables(e, admin)
			addWriter(e, admin, database.Name())
			p := pipeline(t, database.WithUser("reader", "reader").WithAddr(between.address).Open(t, e.driver), nil)
			w := &world{t: t, engine: e, db: admin}
			set := func(statement string) { // in all sessions, because none lives
				between.refuse()
				w.must(statement)
				between.accept(t)
			}
			on, off := readOnly(e)
			count := func() (n int) {
				require.NoError(t, admin.Get(&n, `SELECT count(*) FROM copies`))
				return n
			}
			stop := lab.Start(t, &p)
			for i := range 3 {
				admin.MustExec(`INSERT INTO items (note) VALUES ('before')`)
				lab.WaitFor(t, func() bool { return count() == 2*i+1 })
				began := time.Now()
				set(on)
				admin.MustExec(`INSERT INTO items (note) VALUES ('meanwhile')`)
				lab.WaitFor(t, func() bool {
					s := p.Status()
					return s.Attempts > 0 && strings.Contains(s.LastError, "read-only")
				})
				r.seen = append(r.seen, time.Since(began))
				assert.Equal(t, 2*i+1, count(), "it wrote although it may not")
				set(off)
				healed := time.Now()
				lab.WaitFor(t, func() bool { return count() == 2*i+2 })
				r.recovered = append(r.recovered, time.Since(healed))
				r.times++
			}
			require.NoError(t, stop())
			compare(t, admin, r)
		})
	}
}

// addWriter adds the role reader, which may write, too.
func addWriter(e engine, db *sqlx.DB, database string) {
	if e.name == mariadb.name {
		db.MustExec(`CREATE USER reader IDENTIFIED BY 'reader'`)
		db.MustExec(`GRANT ALL ON ` + database + `.* TO reader`)
		db.MustExec(`GRANT PROCESS ON *.* TO reader`)
		return
	}
	db.MustExec(`CREATE ROLE reader LOGIN PASSWORD 'reader'`)
	db.MustExec(`GRANT ALL ON SCHEMA public TO reader`)
	db.MustExec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO reader`)
}
