// Package sqlitefake has errors shaped like those of the SQLite drivers. Its
// import path contains "sqlite", as theirs do.
package sqlitefake

// Modernc returns the code as an int.
type Modernc struct{ N int }

func (*Modernc) Error() string { return "it failed" }

// Code returns the extended code.
func (e *Modernc) Code() int { return e.N }

// Extended is a code that is itself an error.
type Extended uint16

func (Extended) Error() string { return "it failed" }

// NCruces returns the code as a named type.
type NCruces struct{ N Extended }

func (*NCruces) Error() string { return "it failed" }

// Code returns the primary code.
func (e *NCruces) Code() Extended { return e.N & 0xff }

// ExtendedCode returns the extended code.
func (e *NCruces) ExtendedCode() Extended { return e.N }

// Mattn holds the codes in fields.
type Mattn struct{ Code, ExtendedCode int }

func (Mattn) Error() string { return "it failed" }

// Uncoded is an error without a code.
type Uncoded struct{}

func (Uncoded) Error() string { return "it failed" }
