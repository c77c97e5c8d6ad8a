// Package invoices is an example of a pipeline and its tests. The tests need no
// database and do not wait, see invoices_test.go.
//
// [Pipeline] is testable because it takes its source and its sinks as arguments.
// In production they are a sqlsource.Query[Order] and a filesink.Dir[Invoice].
// In tests they are the fakes of sourcetest, sinktest and pollertest.
package invoices

import (
	"fmt"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink"
	"github.com/artifactofdevotion/devotion/source"
)

// Order is a row of the table orders.
type Order struct {
	ID    int64  `db:"id"`
	Name  string `db:"name"`
	Cents int64  `db:"cents"`
}

// Invoice is the invoice for one order.
type Invoice struct {
	Number string `json:"number"`
	Text   string `json:"text"`
}

// Bill returns the invoice for an order.
func Bill(o Order) (Invoice, error) {
	if o.Cents <= 0 {
		return Invoice{}, fmt.Errorf("order %d has no price", o.ID)
	}
	return Invoice{
		Number: fmt.Sprintf("R-%06d", o.ID),
		Text:   fmt.Sprintf("%s owes %d.%02d", o.Name, o.Cents/100, o.Cents%100),
	}, nil
}

// Books stores invoices. It is an exactly-once sink: it stores the cursor together
// with the records, so each order is billed exactly once.
type Books interface {
	sink.Sink[Invoice]
	poller.Checkpointer
}

// Pipeline bills orders. An order that cannot be billed goes to rejected, with the
// reason, and does not delay the others.
func Pipeline(orders source.Source[Order], books Books, rejected sink.Sink[poller.Rejected[Order]]) *poller.Poller[Order] {
	return &poller.Poller[Order]{
		Name:         "invoices",
		Source:       orders,
		Sink:         sink.Map(books, Bill),
		Checkpointer: books,
		DeadLetter:   rejected,
	}
}
