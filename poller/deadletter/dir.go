package deadletter

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/sink/filesink"
	"github.com/artifactofdevotion/devotion/source"
)

// Options say how a [Dir] writes. The zero value is ready to use.
type Options struct {
	// Logger logs when a file cannot be completed, see [filesink.Options].
	// Defaults to slog.Default().
	Logger *slog.Logger

	// MustExist makes Open refuse a directory without a checkpoint, such as a mount
	// point that is not mounted, and create nothing. The first start leaves it out.
	// The error wraps fs.ErrNotExist.
	MustExist bool

	// Distinct says that no two records of the source have equal JSON, as rows with
	// their primary key. A record that the sink rejects then has the same ID again
	// after any crash or rewind. Do not set it for other records: of two that are
	// equal, only one would be listed and replayed.
	Distinct bool
}

// Dir is a directory of letters: the DeadLetter of a Poller. It is safe for
// concurrent use.
type Dir[T any] struct {
	files    *filesink.Dir[Letter]
	distinct bool // see Options
}

// Open opens a directory of letters and locks it until Close. It creates the
// directory if it does not exist, and recovers from a crash, see [filesink.Open].
// The directory must not be the one that the pipeline's sink writes to.
func Open[T any](dir string, o Options) (*Dir[T], error) {
	files, err := filesink.Open(dir, filesink.Options[Letter]{Name: "letters", Logger: o.Logger, MustExist: o.MustExist})
	if err != nil {
		return nil, fmt.Errorf("deadletter: %w", err)
	}
	return &Dir[T]{files, o.Distinct}, nil
}

// Write stores the records of a batch as letters, durably. A letter with the ID of
// the one stored last is not stored again. Write never
// rejects a record: one that cannot be written as JSON is stored without its
// values. After an error call Write again.
func (d *Dir[T]) Write(ctx context.Context, b source.Batch[poller.Rejected[T]]) error {
	for _, r := range b.Records {
		if err := d.write(ctx, newLetter(r, d.distinct)); err != nil {
			return fmt.Errorf("deadletter: %w", err)
		}
	}
	return nil
}

// write uses the letter's ID as the cursor: it is stored together with the letter,
// so that after an error or a crash it tells whether the letter is stored.
func (d *Dir[T]) write(ctx context.Context, l Letter) error {
	last, err := d.files.Load(ctx)
	if id := source.Cursor(l.ID); err == nil && id != last {
		err = d.files.Write(ctx, source.Batch[Letter]{From: last, To: id, Records: []Letter{l}})
	}
	return err
}

// Close releases the directory. The next Open goes on with the open file. A second
// Close does nothing.
func (d *Dir[T]) Close() error { return d.files.Close() }
