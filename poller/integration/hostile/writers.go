package hostile

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Writers write to a table concurrently, each of them one transaction after another. DB,
// Table, and Rows or For must be set. It must not be changed while Run runs.
type Writers struct {
	DB    *sql.DB
	Table Table

	Rows int           // stop after at least this many committed rows; 0: no limit
	For  time.Duration // stop after this time; 0: no limit

	Writers int           // number of concurrent writers; 0 means 32. DB must allow as many connections
	Hold    time.Duration // longest time that a transaction is held open, which happens to one in five; 0 means 2 s, negative never

	// Acts are the steps of the transactions. nil means those that Common returns.
	Acts []Act

	// Rollbacks is the share of transactions that are rolled back. Prepared is the share
	// that are prepared, by PREPARE TRANSACTION or XA, and later committed or rolled back.
	// Their sum is at most 1, and both are 0 by default.
	Rollbacks, Prepared float64

	// Prefill is the number of rows that are inserted before the writers start. Upsert
	// needs them.
	Prefill int

	// Outages allows the database to be unavailable at times: writers retry. If it is
	// false, any error but a deadlock or a lock timeout ends Run.
	Outages bool

	// Seed determines what each writer does, but not the timing.
	Seed uint64

	// Progress, if not nil, is called after each commit, from several goroutines.
	Progress func(Counts)
}

// Run writes until Rows are committed, For has passed or ctx ends. It returns when no
// transaction is open any more. The Ledger records the written rows; it is nil only if the
// settings are invalid. An error says that a setting is invalid, that a transaction failed,
// or that an act inserted other rows than it reserved.
func (w *Writers) Run(ctx context.Context) (*Ledger, error) {
	r, err := w.start(ctx)
	if err != nil {
		return nil, err
	}
	return r.ledger, r.run(ctx)
}

// run is the state of one call of Run.
type run struct {
	Writers
	dialect  dialect
	sequence sql.NullString // generates the key, on Postgres
	ledger   *Ledger
	low      atomic.Int64
	stock    chan int64 // keys that were drawn and not used yet
	names    string     // prefix of the names of prepared transactions
	prepared atomic.Int64
	total    float64 // sum of the acts' weights
}

func (w *Writers) start(ctx context.Context) (*run, error) {
	r := &run{Writers: *w, ledger: newLedger(), names: fmt.Sprintf("hostile-%x-%x-", w.Seed, rand.Uint32())}
	if err := r.check(); err != nil {
		return nil, err
	}
	var err error
	if r.dialect, err = findDialect(r.DB); err != nil {
		return nil, err
	}
	if r.Acts == nil {
		if r.Acts, err = Common(r.DB); err != nil {
			return nil, err
		}
	}
	r.Acts = slices.Clone(r.Acts)
	for i := range r.Acts {
		r.Acts[i].Weight = cmp.Or(r.Acts[i].Weight, 1)
		r.total += r.Acts[i].Weight
	}
	r.Writers.Writers = cmp.Or(r.Writers.Writers, 32)
	r.Hold = cmp.Or(r.Hold, 2*time.Second)
	r.stock = make(chan int64, stockSize+r.Writers.Writers*maxRows)
	if r.dialect == postgres {
		row := r.DB.QueryRowContext(ctx, `SELECT pg_get_serial_sequence($1, $2)`, r.Table.Name, strings.Trim(r.Table.Key, `"`))
		if err := row.Scan(&r.sequence); err != nil {
			return nil, fmt.Errorf("hostile: looking for the sequence of %s: %w", r.Table.Name, err)
		}
	}
	return r, nil
}

// check rejects missing settings, and those by which nothing would ever be committed.
func (w *Writers) check() error {
	switch {
	case w.DB == nil || w.Rows <= 0 && w.For <= 0:
		return errors.New("hostile: Writers need DB, and Rows or For")
	case w.Table.Name == "" || w.Table.Key == "" || w.Table.Token == "":
		return errors.New("hostile: Table needs Name, Key and Token")
	case len(w.Table.Columns) > 0 && w.Table.Values == nil:
		return errors.New("hostile: Table has Columns but no Values")
	case w.Writers < 0 || w.Prefill < 0:
		return errors.New("hostile: Writers or Prefill is negative")
	case !(w.Rollbacks >= 0 && w.Prepared >= 0 && w.Rollbacks+w.Prepared <= 1 && w.Rollbacks < 1):
		return errors.New("hostile: Rollbacks and Prepared must not be negative, their sum must be at most 1, and Rollbacks must be below 1")
	case w.Acts != nil && len(w.Acts) == 0:
		return errors.New("hostile: Acts is empty: leave it nil for the acts of Common")
	}
	for _, a := range w.Acts {
		if a.Do == nil || a.Weight < 0 {
			return fmt.Errorf("hostile: the act %q has no Do, or a negative Weight", a.Name)
		}
	}
	return nil
}

// run runs the writers.
func (r *run) run(ctx context.Context) error {
	if err := r.prefill(ctx); err != nil {
		return err
	}
	begun, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	enough := begun
	if r.For > 0 {
		var cancel context.CancelFunc
		enough, cancel = context.WithTimeout(begun, r.For)
		defer cancel()
	}
	var all sync.WaitGroup
	for i := range r.Writers.Writers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(r.Seed, uint64(i)))
			for enough.Err() == nil && (r.Rows <= 0 || r.ledger.Counts().Committed < r.Rows+r.Prefill) {
				// The end of the time must not interrupt a transaction.
				if err := r.transaction(begun, rng); err != nil {
					stop(fmt.Errorf("writer %d: %w", i, err)) // the first error counts
				}
			}
		})
	}
	all.Wait()
	swept := r.sweep(ctx)
	if begun.Err() != nil {
		return fmt.Errorf("hostile: %w", context.Cause(begun))
	}
	if swept != nil {
		return swept
	}
	if err := r.ledger.reconcile(ctx, r.DB, r.Table); err != nil {
		return err
	}
	if n := r.ledger.Counts().LostByServer; n > 0 && !r.Outages {
		return fmt.Errorf("hostile: %d rows are not in the table though their commit was confirmed", n)
	}
	return nil
}

func (r *run) prefill(ctx context.Context) error {
	if r.Prefill == 0 {
		return nil
	}
	conn, err := r.DB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("hostile: %w", err)
	}
	defer conn.Close()
	x := r.begin(rand.New(rand.NewPCG(r.Seed, 1<<32)), conn)
	for left := r.Prefill; left > 0; left -= 500 {
		if err := x.insert(ctx, min(left, 500)); err != nil {
			return fmt.Errorf("hostile: filling the table: %w", err)
		}
	}
	// One span, which DeleteAny does not touch.
	x.spans = []span{{first: x.spans[0].first, n: int32(r.Prefill), what: "prefill"}}
	r.ledger.end(x, committed)
	return nil
}

func (r *run) begin(rng *rand.Rand, conn *sql.Conn) *Txn {
	x := &Txn{Rand: rng, Conn: conn, DB: r.DB, run: r}
	if r.Hold > 0 && rng.IntN(5) == 0 { // most are not held open
		u := rng.Float64()
		x.hold = time.Duration(u * u * u * float64(r.Hold))
	}
	return x
}

func (r *run) pick(rng *rand.Rand) Act {
	at := rng.Float64() * r.total
	for _, a := range r.Acts {
		if at -= a.Weight; at < 0 {
			return a
		}
	}
	return r.Acts[len(r.Acts)-1]
}

// transaction runs one transaction. It returns an error only if the writers must stop.
func (r *run) transaction(ctx context.Context, rng *rand.Rand) error {
	conn, err := r.DB.Conn(ctx)
	if err != nil {
		return r.failed(ctx, err)
	}
	defer conn.Close()
	x, rollback := r.begin(rng, conn), false
	switch u := rng.Float64(); {
	case u < r.Rollbacks:
		rollback = true
	case u < r.Rollbacks+r.Prepared:
		x.xid = fmt.Sprintf("%s%d", r.names, r.prepared.Add(1))
	}
	end, err := x.do(ctx, rollback)
	if err != nil {
		// Not back to the pool: the end of its session ends an open transaction.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	if err == nil || end != rolledBack {
		r.ledger.end(x, end)
	}
	if end == committed && r.Progress != nil {
		r.Progress(r.ledger.Counts())
	}
	return r.failed(ctx, err)
}

// failed counts an error, and decides whether the writers must stop.
func (r *run) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	r.ledger.note(func(c *Counts) { c.Failed++ })
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case aborted(err):
		return nil
	case r.Outages:
		return sleep(ctx, 20*time.Millisecond)
	}
	return err
}

// stockSize is how many keys NextvalEarlier keeps in stock.
const stockSize = 500

// swap adds keys to the stock and returns as many of the oldest ones, or none while the
// stock is small. It never waits: nobody takes more keys than he has added.
func (r *run) swap(fresh []int64) (old []int64) {
	for _, key := range fresh {
		r.stock <- key
	}
	if len(r.stock) < stockSize {
		return nil
	}
	for range fresh {
		old = append(old, <-r.stock)
	}
	return old
}
