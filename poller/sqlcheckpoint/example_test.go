package sqlcheckpoint_test

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/sqlcheckpoint"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

type Order struct {
	ID    int64  `db:"id"`
	Total string `db:"total"`
}

// Orders is a Sink and a Checkpointer: rows and cursor are stored in one
// transaction, so each order is written exactly once. Load and Save are those of
// the Store.
type Orders struct {
	*sqlcheckpoint.Store
	DB *sqlx.DB
}

func (o Orders) Write(ctx context.Context, b source.Batch[Order]) error {
	tx, err := o.DB.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if moved, err := o.Advance(ctx, tx, b.From, b.To); err != nil || !moved {
		return err // not moved: an earlier attempt was committed
	}
	for _, order := range b.Records {
		if _, err := tx.NamedExecContext(ctx, `INSERT INTO orders (id, total) VALUES (:id, :total)`, order); err != nil {
			return err
		}
	}
	return tx.Commit()
}

var (
	_ sink.Sink[Order]    = Orders{}
	_ poller.Checkpointer = Orders{}
)

// The type Orders is a complete exactly-once sink.
func ExampleStore_Advance() {
	run := func(ctx context.Context, db *sqlx.DB, src source.Source[Order]) error {
		checkpoint, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
		if err != nil {
			return err
		}
		orders := Orders{checkpoint, db}
		p := &poller.Poller[Order]{Name: "orders", Source: src, Sink: orders, Checkpointer: orders}
		return p.Run(ctx)
	}
	_ = run
}

// A person has everything since the oldest known cursor sent again.
func ExampleStore_Rewind() {
	rewind := func(ctx context.Context, db *sqlx.DB) error {
		checkpoint, err := sqlcheckpoint.New(db, "orders", sqlcheckpoint.Options{})
		if err != nil {
			return err
		}
		history, err := checkpoint.History(ctx)
		if err != nil {
			return err
		}
		return checkpoint.Rewind(ctx, history[len(history)-1].Cursor)
	}
	_ = rewind
}
