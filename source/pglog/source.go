package pglog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
)

// Source reads the existing rows of a publication's tables, and then their changes. DB, Slot and
// Publication must be set. No field may be changed after the first Fetch, and a Source must not be copied.
//
// Call [Source.Saved] from the Poller's hooks: the server keeps its log until then. Call Close at the end.
// The methods are safe for concurrent use, but fetches run one after the other.
type Source struct {
	// DB is a pool of any driver for Postgres that database/sql has. It must allow two connections.
	DB *sqlx.DB

	// Slot is the name of the replication slot. No other reader may use it. The first Fetch
	// creates it if it does not exist.
	Slot string

	// Publication is the name of the publication. It must exist, and publish all kinds of changes.
	Publication string

	// Tables are the tables to read, as [sqlsource.Table.Name]. nil reads all tables of the publication.
	// A table that is added to it later is read from then on, without its existing rows.
	Tables []string

	// SkipCopy begins at the slot's position, without a copy of the existing rows.
	SkipCopy bool

	// MaxBytes is the size in memory at which a batch ends. A batch has at least one change. 0
	// means sqlsource.DefaultMaxBytes.
	MaxBytes int

	// MaxRowBytes is the size of the largest change that is delivered. A larger one is a
	// *source.BadRecord. 0 means sqlsource.DefaultMaxRowBytes.
	MaxRowBytes int

	// Logger gets a line when the tables of the publication change. nil means slog.Default().
	Logger *slog.Logger

	mu       sync.Mutex
	settling settling
	copier   *copier
	stream   *stream
	tables   []table
	listed   time.Time         // when tables were read
	shapes   map[string]*shape // by the message that describes the table
	scale    int               // the window is enlarged by 2 to this power, because the last one had nothing new
	growth   int               // and by 2 to this one, because of a backlog that is read quickly
	passed   int               // how many messages after the slot's position were read before
	idle     idle
	fresh    freshness

	pinned   int64 // bytes of the log
	slot     lsn   // where it stood when this Source saw it last
	released time.Time

	marked     lsn // where the server was made to log its running transactions
	markFailed time.Time

	savedLock sync.Mutex // not held during statements
	saved     cursor
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// check returns an error if a field is not valid.
func (s *Source) check(limit int) error {
	switch {
	case s.DB == nil:
		return errors.New("DB is nil")
	case s.DB.Stats().MaxOpenConnections == 1:
		return errors.New("DB allows one connection, and reading the log takes two: raise SetMaxOpenConns")
	case !slotName.MatchString(s.Slot):
		return errors.New("Slot must be a name of 1 to 63 lower-case letters, digits and underscores")
	case s.Publication == "":
		return errors.New("Publication is empty")
	case s.Tables != nil && len(s.Tables) == 0:
		return errors.New("Tables is empty; nil means all")
	case s.MaxBytes < 0 || s.MaxRowBytes < 0:
		return errors.New("MaxBytes or MaxRowBytes is negative")
	case limit < 1:
		return fmt.Errorf("the caller asked for a limit of %d changes", limit)
	}
	return nil
}

// Fetch implements [source.Source]. It returns changes in the order in which their transactions
// committed, and a batch can end inside of a transaction. Errors are those of this package, or wrap that of the
// driver. Those that retrying cannot fix are marked with [retry.Permanent].
func (s *Source) Fetch(ctx context.Context, after source.Cursor, limit int) (source.Batch[row.Change], error) {
	none := source.Batch[row.Change]{From: after, To: after}
	if err := cmp.Or(s.check(limit), ctx.Err()); err != nil {
		return none, fail(err, s.check(limit) != nil)
	}
	var at cursor
	if after != "" {
		var err error
		if at, err = decodeCursor(after); err != nil {
			return none, fail(err, true)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.fetch(ctx, after, at, limit)
	if err != nil {
		var bad *source.BadRecord
		if errors.As(err, &bad) {
			return none, bad
		}
		s.closeStream()
		s.growth = 0
		if errors.Is(err, errDiverged) {
			err = s.diverged(ctx, err)
		}
		return none, fail(err, errors.Is(err, ErrHistory))
	}
	b.From, b.Pinned = after, s.pinned
	b.Guarantee = &guarantee
	if s.SkipCopy {
		b.Guarantee = &guaranteeOfLog
	}
	return b, nil
}

func fail(err error, permanent bool) error {
	err = fmt.Errorf("pglog: %w", err)
	if permanent {
		return retry.Permanent(err)
	}
	return err
}

var guaranteeOfLog = source.Guarantee{Name: "write-ahead log", Text: "every insert, update, delete and truncation of the published tables that commits after the slot was created is delivered once, in the order of the commits, as long as the slot exists and the server keeps its log"}

var guarantee = source.Guarantee{Name: "copy and write-ahead log", Text: "every row that exists at the start is delivered, and then every insert, update, delete and truncation that the copy does not contain, once and in the order of the commits, as long as the slot exists and the server keeps its log; if the process ends during the copy, rows and changes of that time can be delivered twice, as upserts; of a table that is added to the publication later, the rows that exist by then are not delivered"}

func (s *Source) logger() *slog.Logger { return cmp.Or(s.Logger, slog.Default()) }
