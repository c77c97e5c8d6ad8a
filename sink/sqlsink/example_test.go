package sqlsink_test

import (
	"context"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/sqlsink"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
)

// A table of one database is copied into a table of another one.
func ExampleUpsert() {
	run := func(ctx context.Context, from, to *sqlx.DB) error {
		src := &sqlsource.Table{DB: from, Name: "orders", Key: []string{"id"}}
		orders, err := sqlsink.Upsert(to, "orders", "archive.orders", sqlsink.Options{})
		if err != nil {
			return err
		}
		p := &poller.Poller[row.Row]{Name: "orders", Source: src, Sink: orders, Checkpointer: orders}
		return p.Run(ctx)
	}
	_ = run
}

// The changes of several tables are applied to tables of the same names in the schema copy.
func ExampleApply() {
	run := func(ctx context.Context, changes source.Source[row.Change], to *sqlx.DB) error {
		shop, err := sqlsink.Apply(to, "shop", sqlsink.Options{
			Target: func(source string) string { return "copy." + strings.TrimPrefix(source, "public.") },
		})
		if err != nil {
			return err
		}
		p := &poller.Poller[row.Change]{Name: "shop", Source: changes, Sink: shop, Checkpointer: shop}
		return p.Run(ctx)
	}
	_ = run
}
