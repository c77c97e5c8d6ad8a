// Package invoices is a pipeline as a program has it, and shows in its tests
// how to test one without a database and without waiting: see
// invoices_test.go.
//
// What makes it testable is that [Pipeline] takes its parts as arguments. In
// production they are a sqlsource.Query[Order] and a filesink.Dir[Invoice], in
// tests the fakes of sourcetest, sinktest and pollertest.
package invoices

import (
	"fmt"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Order is a row of the shop's table.
type Order struct {
	ID    int64  `db:"id"`
	Name  string `db:"name"`
	Cents int64  `db:"cents"`
}

// Invoice is what accounting wants of an order.
type Invoice struct {
	Number string `json:"number"`
	Text   string `json:"text"`
}

// Bill makes the invoice of an order.
func Bill(o Order) (Invoice, error) {
	if o.Cents <= 0 {
		return Invoice{}, fmt.Errorf("order %d has no price", o.ID)
	}
	return Invoice{
		Number: fmt.Sprintf("R-%06d", o.ID),
		Text:   fmt.Sprintf("%s owes %d.%02d", o.Name, o.Cents/100, o.Cents%100),
	}, nil
}

// Books is where invoices go: a sink that keeps the cursor with the records, so
// that each order is billed exactly once.
type Books interface {
	sink.Sink[Invoice]
	poller.Checkpointer
}

// Pipeline bills orders. Those that cannot be billed go to refused, with the
// reason, and hold up no other.
func Pipeline(orders source.Source[Order], books Books, refused sink.Sink[poller.Rejected[Order]]) *poller.Poller[Order] {
	return &poller.Poller[Order]{
		Name:         "invoices",
		Source:       orders,
		Sink:         sink.Map(books, Bill),
		Checkpointer: books,
		DeadLetter:   refused,
	}
}
