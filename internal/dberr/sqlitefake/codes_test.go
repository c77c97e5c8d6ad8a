// Package sqlitefake_test has errors shaped like those of the SQLite drivers. Its
// import path contains "sqlite", as theirs do.
package sqlitefake_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/artifactofdevotion/devotion/internal/dberr"
)

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

// Each SQLite driver keeps its code in another shape.
func TestSQLiteCodes(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&Modernc{N: 2067}, &NCruces{N: 2067}, Extended(2067),
		Mattn{Code: 19, ExtendedCode: 2067}, &Mattn{Code: 19, ExtendedCode: 2067},
	} {
		text, kind, ok := dberr.Read(err)
		assert.True(t, ok, "%T", err)
		assert.Equal(t, dberr.Data, kind, "%T", err)
		assert.Equal(t, "SQLite error 2067 (CONSTRAINT)", text, "%T", err)
	}
	_, _, ok := dberr.Read(Uncoded{})
	assert.False(t, ok)
}
