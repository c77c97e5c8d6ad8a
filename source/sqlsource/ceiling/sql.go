package ceiling

import "context"

// SQL is what [Grace] and [Lag] must know about a database. Package dialect includes it.
type SQL interface {
	Name() string       // the database's name, for messages, such as "SQL Server"
	Limit(n int) string // the clause that ends an ordered statement after n rows: LIMIT 1
	Integer() string    // how an int64 argument is written: ?, or a cast of it

	// KeyTypes returns the types of the key's columns, as Older and KeyValue take them, ""
	// where a type is not known.
	KeyTypes(ctx context.Context, db Queryer, t Table) ([]string, error)

	// Older returns a condition that holds when the column ref of that type is a time more than
	// some microseconds, the ? in it (an int64), before the database's clock. It returns "" if
	// the type is not a time, or is not compared with the clock.
	Older(ref, typ string) string

	// KeyValue says how the value of a key's column of that type is read, and how it is
	// written in a later statement so that it compares as the column does.
	KeyValue(typ string) KeyValue
}

// KeyValue is how a key's value is read and written again.
type KeyValue struct {
	Select   string           // the expression that reads it; %s stands for the column
	Argument string           // the expression that writes it, with one ?
	Text     bool             // it is read as text, which some drivers return as []byte
	Parse    func(string) any // makes the argument of that text; nil: the text itself
}
