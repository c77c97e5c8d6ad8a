package hostile_test

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller/integration/hostile"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// Test a table whose columns need values, and an application that draws invoice numbers
// long before it inserts the invoices.
func ExampleTrial() {
	_ = func(ctx context.Context, db *sqlx.DB) {
		// A copy of the application's table with a column for the tokens.
		db.MustExec(`create table invoices (like real.invoices including all); alter table invoices add column token bigint unique`)
		db.SetMaxOpenConns(64)

		invoices := hostile.Table{
			Name: "invoices", Key: "id", Token: "token",
			Columns: []string{"customer", "cents"},
			Values:  func(r *rand.Rand) []any { return []any{r.IntN(100), r.IntN(10_000)} },
		}
		reserve := hostile.Act{Name: "number drawn early", Do: func(ctx context.Context, x *hostile.Txn) error {
			var id int64
			if err := x.DB.QueryRowContext(ctx, `select nextval('invoices_id_seq')`).Scan(&id); err != nil {
				return err
			}
			if err := x.Hold(ctx); err != nil {
				return err
			}
			return x.Exec(ctx, `insert into invoices (id, token, customer, cents) values ($1, $2, 1, 100)`, id, x.Reserve(1))
		}}
		acts, err := hostile.Common(db.DB)
		if err != nil {
			log.Fatal(err)
		}
		trial := hostile.Trial{
			Writers: hostile.Writers{DB: db.DB, Table: invoices, Rows: 100_000, Acts: append(acts, reserve), Rollbacks: 0.1},
			Readers: []hostile.Reader{
				{Name: "naive", Source: &sqlsource.Table{DB: db, Name: "invoices", Key: []string{"id"}, Ceiling: ceiling.None{}}},
				{Name: "ours", Source: &sqlsource.Table{DB: db, Name: "invoices", Key: []string{"id"}}},
			},
		}
		ledger, results, err := trial.Run(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(hostile.MarkdownHead)
		for _, r := range results {
			fmt.Print(r.Markdown("invoices"))
			for _, token := range r.LostTokens {
				fmt.Println(r.Reader, "lost", ledger.Describe(token))
			}
		}
	}
}
