package snapshot

import (
	"context"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// server is what a snapshot must know about a database, beyond its dialect.
type server interface {
	// prepare says which statements must run before the moment of the snapshot is taken. It runs before the transaction.
	prepare(ctx context.Context, db ceiling.Queryer, tables []*table) (begin []string, err error)

	// refused returns the error of a statement that begins the transaction, with what to do, if that is known.
	refused(err error) error

	// begun takes the moment, checks the transaction, and sets the savepoint, if errors would abort it. The warning says what
	// the transaction does to others.
	begun(ctx context.Context, db ceiling.Queryer, tables []*table) (warning string, err error)

	// end are the statements that end the transaction and set the session back.
	end() []string

	// goOn is a statement that succeeds after an error if the transaction still has its snapshot.
	goOn() string

	// describe finds the key, the size and the engine of a table.
	describe(ctx context.Context, db ceiling.Queryer, t *table) error

	// lost reports whether an error says that the transaction's snapshot cannot be used any more.
	lost(err error) bool

	// aborted reports whether an error says that the transaction has to end because of another error.
	aborted(err error) bool

	// stream are the statements to run before one that returns the rows of a table for as long as
	// the reader takes.
	stream() []string
}

// serverOf returns the server of a dialect.
func serverOf(d dialect.Dialect) (server, error) {
	switch d.Name() {
	case "Postgres":
		return &postgres{}, nil
	case "MySQL or MariaDB":
		return mysql{}, nil
	case "SQLite":
		return sqlite{}, nil
	}
	return nil, permanent("%s is not a database whose snapshots are known: Postgres, MySQL, MariaDB and SQLite are", d.Name())
}
