# An NF that is one static program: the image holds nothing else. `containers/README.md` has the commands.
FROM scratch
COPY nf_forward nf_intruder /
USER 65534:65534
ENTRYPOINT ["/nf_forward"]
