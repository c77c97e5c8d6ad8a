package invoices_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	invoices "github.com/artifactofdevotion/devotion/examples/testing"
	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/sink/sinktest"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/sourcetest"
)

var (
	ada    = invoices.Order{ID: 1, Name: "Ada", Cents: 1999}
	grace  = invoices.Order{ID: 2, Name: "Grace", Cents: 500}
	free   = invoices.Order{ID: 3, Name: "Eve", Cents: 0} // cannot be billed
	edsger = invoices.Order{ID: 4, Name: "Edsger", Cents: 1}

	adas    = invoices.Invoice{Number: "R-000001", Text: "Ada owes 19.99"}
	graces  = invoices.Invoice{Number: "R-000002", Text: "Grace owes 5.00"}
	edsgers = invoices.Invoice{Number: "R-000004", Text: "Edsger owes 0.01"}
)

// world holds the fakes that a pipeline uses. Their zero values are ready to use.
type world struct {
	orders   sourcetest.Fake[invoices.Order]
	books    sinktest.Transactional[invoices.Invoice]
	rejected sinktest.Fake[poller.Rejected[invoices.Order]]
}

func (w *world) pipeline() *poller.Poller[invoices.Order] {
	p := invoices.Pipeline(&w.orders, w.books.Open(), &w.rejected)
	p.Logger = slog.New(slog.DiscardHandler)
	return p
}

// run starts the pipeline in the background, as a service does. It stops at the end
// of the test.
func (w *world) run(t *testing.T) *poller.Poller[invoices.Order] {
	p := w.pipeline()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return p
}

// The simplest test: Drain delivers the existing orders, and then returns.
func TestOrdersAreBilled(t *testing.T) {
	var w world
	w.orders.Append(ada, grace)

	require.NoError(t, w.pipeline().Drain(t.Context()))
	require.Equal(t, []invoices.Invoice{adas, graces}, w.books.Records())
}

// In a bubble of testing/synctest, time passes only while all goroutines wait. An
// outage of an hour, with all its retries, takes no real time.
func TestAnHourWithoutDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w world
		p := w.run(t)
		w.orders.Append(ada)
		time.Sleep(5 * time.Second)
		require.Equal(t, []invoices.Invoice{adas}, w.books.Records())

		w.orders.Fail(errors.New("connection refused"))
		w.orders.Append(grace)
		time.Sleep(time.Hour)
		require.Equal(t, []invoices.Invoice{adas}, w.books.Records())
		require.Equal(t, "connection refused", p.Status().LastError)
		require.Positive(t, p.Status().Attempts, "the Status shows that it is failing")

		w.orders.Heal()
		time.Sleep(31 * time.Second) // the longest backoff, and a little more
		require.Equal(t, []invoices.Invoice{adas, graces}, w.books.Records())
		require.Zero(t, p.Status().Attempts)
	})
}

// The worst case of a network failure: the books store a batch, but the answer is
// lost. The pipeline writes the batch again, and the books recognise it.
func TestALostAnswerBillsNobodyTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w world
		w.orders.Append(ada, grace)
		books := w.books.Open()
		books.LoseNext(3, errors.New("connection reset"))
		p := invoices.Pipeline(&w.orders, books, &w.rejected)
		p.Logger = slog.New(slog.DiscardHandler)

		require.NoError(t, p.Drain(t.Context()))
		require.Equal(t, []invoices.Invoice{adas, graces}, w.books.Records())
	})
}

// An order that cannot be billed goes to the dead-letter sink with the reason. The
// others are billed in order.
func TestARejectedOrder(t *testing.T) {
	var w world
	w.orders.Append(ada, grace, free, edsger)

	require.NoError(t, w.pipeline().Drain(t.Context()))
	require.Equal(t, []invoices.Invoice{adas, graces, edsgers}, w.books.Records())
	require.Len(t, w.rejected.Records(), 1)
	letter := w.rejected.Records()[0]
	require.Equal(t, free, letter.Record)
	require.Contains(t, letter.Err, "order 3 has no price")
}

// An open transaction may still add an order before the existing ones. The source
// holds those back, and the Status names the holder.
func TestASlowTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w world
		p := w.run(t)
		w.orders.Hold(source.Held{By: []string{"pid 4711 (psql)"}})
		w.orders.Append(ada)
		time.Sleep(time.Minute)
		require.Empty(t, w.books.Records())
		require.Equal(t, []string{"pid 4711 (psql)"}, p.Status().Held.By)

		w.orders.Release()
		time.Sleep(2 * time.Second)
		require.Equal(t, []invoices.Invoice{adas}, w.books.Records())
	})
}

// Explore crashes the pipeline before and after each call to the fakes, and at each
// pair of calls. It restarts the pipeline after each crash, and checks that every
// order is billed once. The orders include one that is rejected, because crashes
// are hardest to handle there.
func TestNoCrashLosesOrRepeatsAnInvoice(t *testing.T) {
	scenarios, err := pollertest.Explore(t.Context(), pollertest.Exploration[invoices.Order]{
		New: func(context.Context) (pollertest.Machine[invoices.Order], error) {
			var w world
			w.orders.Append(ada, grace, free, edsger)
			return pollertest.Machine[invoices.Order]{
				Start: func(context.Context) (*poller.Poller[invoices.Order], error) {
					p := w.pipeline()
					p.BatchSize = 2 // more batches mean more places to crash
					return p, nil
				},
				Delivered: func(context.Context) ([]invoices.Order, error) { return billed(w.books.Records()), nil },
			}, nil
		},
		Expected:    []invoices.Order{ada, grace, edsger},
		ExactlyOnce: true,
	})
	require.NoError(t, err)
	require.Greater(t, scenarios, 100)
	t.Logf("%d scenarios", scenarios)
}

// billed returns the orders of the invoices. An unknown invoice becomes the zero
// Order, which is not expected.
func billed(all []invoices.Invoice) []invoices.Order {
	var orders []invoices.Order
	for _, invoice := range all {
		orders = append(orders, map[invoices.Invoice]invoices.Order{adas: ada, graces: grace, edsgers: edsger}[invoice])
	}
	return orders
}
