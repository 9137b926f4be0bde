// Signs the texts of the golden notes with the reference implementation of notes.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// The key whose seed is this number, 32 times.
func signer(name string, number byte) note.Signer {
	seed := bytes.Repeat([]byte{number}, ed25519.SeedSize)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	id := sha256.Sum256(append([]byte(name+"\n\x01"), public...))
	key := base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
	return must(note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%x+%s", name, id[:4], key)))
}

func main() {
	signers := map[string][]note.Signer{
		"bundle.note":    {signer("ku.dk/2026", 1), signer("ku.dk/rector", 3)},
		"floor.note":     {signer("nordunet/2026", 4)},
		"directory.note": {signer("nordunet/2026", 4)},
		"ticket.note":    {signer("cph-1/2026", 11)},
		"grant.note":     {signer("cph-1/2026", 11)},
	}
	for file, signers := range signers {
		whole := must(os.ReadFile(file))
		text := whole[:bytes.LastIndex(whole, []byte("\n\n"))+1]
		signed := must(note.Sign(&note.Note{Text: string(text)}, signers...))
		if err := os.WriteFile(file, signed, 0o644); err != nil {
			panic(err)
		}
	}
}
