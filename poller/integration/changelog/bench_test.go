package changelog

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// BenchmarkPrice measures what triggers cost writers: the median time of a statement as a ratio to that of the same
// statement on the same table without triggers, alternately in the same run. Bulk statements change 20,000 rows, single
// ones one row, each in its own transaction.
func BenchmarkPrice(b *testing.B) {
	for _, driver := range []dbtest.Driver{dbtest.PGX, dbtest.MySQL, dbtest.Modernc} {
		for _, keysOnly := range []bool{false, true} {
			form := map[bool]string{false: "row", true: "keys"}[keysOnly]
			b.Run(string(driver)+"/"+form, func(b *testing.B) {
				db := lab.DatabaseFor(b, driver).Open(b, driver)
				db.SetMaxOpenConns(1)
				if lab.IsMariaDB(driver) {
					db.MustExec(`set max_recursive_iterations = 1000000`)
				}
				for _, name := range []string{"plain", "recorded"} {
					db.MustExec(`create table ` + name + ` (id int not null primary key, customer int, at varchar(40), title varchar(100), doc varchar(200))`)
				}
				table := silent(db, "recorded")
				table.KeysOnly = keysOnly
				install(b, table)
				price(b, db)
			})
		}
	}
}

const bulk = 20_000

// statements are the measured statements. %s is the table and %d a number.
var statements = []struct{ name, bulk, single string }{
	{"insert", fmt.Sprintf(`insert into %%s with recursive g(n) as (select 1 union all select n + 1 from g where n < %d) select n + 0 * %%d, n, '2026-01-31 12:00:00', 'a title of a row', 'a document that is a little longer than the title of the row' from g`, bulk),
		`insert into %s values (1000000 + %d, 7, '2026-01-31 12:00:00', 'a title of a row', 'a document that is a little longer than the title of the row')`},
	{"update", `update %s set customer = customer + 1 + 0 * %d`, `update %s set customer = customer + 1 where id = 1000000 + %d`},
	{"delete", `delete from %s where id > 0 * %d`, `delete from %s where id = 1000000 + %d`},
}

func price(b *testing.B, db *sqlx.DB) {
	took := map[string][]time.Duration{}
	run := func(kind, table, statement string) {
		start := time.Now()
		_, err := db.Exec(statement)
		took[kind+table] = append(took[kind+table], time.Since(start))
		require.NoError(b, err)
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return took[name][len(took[name])/2].Seconds()
	}
	const singles = 300
	for b.Loop() {
		for _, s := range statements {
			for _, table := range []string{"plain", "recorded"} {
				run("bulk-"+s.name, table, fmt.Sprintf(s.bulk, table, 0))
			}
		}
		for _, s := range statements {
			for i := range singles {
				for _, table := range []string{"plain", "recorded"} {
					run("single-"+s.name, table, fmt.Sprintf(s.single, table, i))
				}
			}
		}
		b.StopTimer()
		db.MustExec(`delete from recorded_changes`)
		b.StartTimer()
	}
	for _, s := range statements {
		for _, kind := range []string{"bulk-", "single-"} {
			b.ReportMetric(median(kind+s.name+"recorded")/median(kind+s.name+"plain"), kind+s.name)
		}
	}
}
